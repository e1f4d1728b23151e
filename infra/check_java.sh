#!/usr/bin/env bash
# Makes sure that Spark will find Java 17 or newer. It takes the Java that is there, installs Debian's package if it may, and
# otherwise says what to type. On success it prints one line.
set -euo pipefail
# shellcheck source=infra/apt.sh
source "${BASH_SOURCE[0]%/*}/apt.sh"

readonly WANTED=17
readonly PACKAGE=openjdk-17-jre-headless

# Major version of the given java, or 0.
major_version() {
    local line
    line=$("$1" -version 2>&1 | sed -n 's/.*version "\([^"]*\)".*/\1/p' | head -n 1) || true
    line=${line#1.} # "1.8.0_392" is Java 8
    line=${line%%[!0-9]*}
    echo "${line:-0}"
}

# Spark takes $JAVA_HOME/bin/java before the java on PATH, so this looks in the same order.
if [[ -n "${JAVA_HOME:-}" ]]; then
    if [[ ! -x "$JAVA_HOME/bin/java" ]]; then
        echo "JAVA_HOME is '$JAVA_HOME', but there is no bin/java in it. Correct it, or type: unset JAVA_HOME" >&2
        exit 1
    fi
    java="$JAVA_HOME/bin/java"
else
    java=$(command -v java || true)
fi

found=0
if [[ -n "$java" ]]; then
    found=$(major_version "$java")
    if ((found >= WANTED)); then
        echo "Java $found at $java"
        exit 0
    fi
fi

if [[ -n "${JAVA_HOME:-}" ]]; then
    echo "Spark needs Java $WANTED or newer; JAVA_HOME points at Java $found. Point it at a newer one, or type: unset JAVA_HOME" >&2
    exit 1
fi

if may_install; then
    echo "There is no Java $WANTED; installing $PACKAGE ..."
    install_packages "$PACKAGE" || {
        echo "Installing $PACKAGE failed. Spark needs Java $WANTED or newer: install one and point JAVA_HOME at it." >&2
        exit 1
    }
    hash -r
    java=$(command -v java || true)
    if [[ -n "$java" ]] && (($(major_version "$java") >= WANTED)); then
        echo "Java $(major_version "$java") at $java"
        exit 0
    fi
    echo "$PACKAGE is installed, but 'java' is another one (${java:-none}). Choose it with: sudo update-alternatives --config java" >&2
    exit 1
fi

if ((found > 0)); then
    echo "Spark needs Java $WANTED or newer; '$java' is Java $found." >&2
else
    echo "Spark needs Java $WANTED or newer; there is none." >&2
fi
if command -v apt-get >/dev/null; then
    echo "Type:  sudo apt-get update && sudo apt-get install -y $PACKAGE" >&2
else
    echo "Install a JDK or JRE of version $WANTED or newer with your system's package manager, or point JAVA_HOME at one." >&2
fi
exit 1
