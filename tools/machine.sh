# Shell functions for the Makefile and .ci/run: what they need of the machine.
# POSIX sh; sourced, never run.

# Install Debian or Ubuntu packages, as root or through sudo. Fails where neither
# apt-get nor the right to use it is there.
install_debian() {
	command -v apt-get >/dev/null 2>&1 || return 1
	as_root=
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null 2>&1 || return 1
		as_root=sudo
	fi
	echo "Installing with apt-get: $*" >&2
	# A fresh machine has no package lists. One source of many that is out of reach
	# fails the update, though the packages may be there all the same.
	log=$($as_root apt-get update 2>&1) || true
	log=$log$($as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends "$@" 2>&1) && return
	printf '%s\n' "$log" >&2
	return 1
}

# Print the first of the named interpreters that is Python 3.11 or later and can
# make a virtual environment. Run, not just looked up: a shim may lead nowhere.
usable_python() {
	for python in "$@"; do
		if "$python" -c 'import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
			command -v "$python"
			return
		fi
	done
	return 1
}

# Print a usable interpreter: the named one, or the best of the machine; on Debian
# and Ubuntu it is installed where it is missing.
find_python() {
	if [ -n "$1" ]; then
		usable_python "$1" && return
		echo "$1 is not a Python 3.11 or later that has the modules venv and" \
			"ensurepip" >&2
		return 1
	fi
	set -- python3.13 python3.12 python3.11 python3
	usable_python "$@" && return
	install_debian python3-venv && usable_python "$@" && return
	echo "No Python 3.11 or later with the modules venv and ensurepip found." \
		"On Debian and Ubuntu: apt-get install python3-venv. To name another, add" \
		"PYTHON=/path/to/python3" >&2
	return 1
}
