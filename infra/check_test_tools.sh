#!/usr/bin/env bash
# Makes sure that the tests will find a browser and PostgreSQL. It takes what is there, installs Debian's packages if it may,
# and otherwise says what to type. It prints nothing if all is there.
set -euo pipefail
# shellcheck source=infra/apt.sh
source "${BASH_SOURCE[0]%/*}/apt.sh"

readonly BROWSER=${CHROMIUM:-/usr/bin/chromium} SERVERS=${POSTGRES_FOLDER:-/usr/lib/postgresql}

missing() {
    [[ -x "$BROWSER" ]] || echo chromium
    compgen -G "$SERVERS/*/bin/initdb" >/dev/null || echo postgresql
}

mapfile -t packages < <(missing)
if ((${#packages[@]} == 0)); then
    exit 0
fi
if may_install; then
    echo "The tests need ${packages[*]}; installing"
    if install_packages "${packages[@]}" && [[ -z "$(missing)" ]]; then
        exit 0
    fi
    echo "Installing ${packages[*]} failed." >&2
fi
echo "The tests need ${packages[*]}. Type:  sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
exit 1
