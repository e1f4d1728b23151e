# Functions for scripts that source this file: one says whether this user may install Debian packages, one installs them.

as_root=()
if [[ $(id -u) -ne 0 ]]; then
    as_root=(sudo -n)
fi

may_install() {
    command -v apt-get >/dev/null && { [[ ${#as_root[@]} -eq 0 ]] || sudo -n true 2>/dev/null; }
}

install_packages() {
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
