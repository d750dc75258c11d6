#!/usr/bin/env bash
# Installs the real programs that the tests of `http_profile` run, below .backends/.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .backends

agent=@sandbox-agent/cli-linux-x64
if [ "$(uname -m)" != x86_64 ] || ! command -v npm >/dev/null; then
    echo "sandbox-agent needs npm, and x86-64: its tests are skipped"
elif [ ! -e .backends/sandbox-agent/sandbox-agent ]; then
    mkdir -p .backends/sandbox-agent
    npm install --silent --no-save --prefix .backends/sandbox-agent "$agent@0.4.2"
    chmod +x ".backends/sandbox-agent/node_modules/$agent/bin/sandbox-agent"
    ln -sf "node_modules/$agent/bin/sandbox-agent" .backends/sandbox-agent/sandbox-agent
fi

venv() { # directory, interpreter, requirement
    if [ ! -e ".backends/$1/.installed" ]; then
        "$2" -m venv --clear ".backends/$1"
        ".backends/$1/bin/pip" install -q "$3"
        touch ".backends/$1/.installed"
    fi
}
venv open-terminal "${PYTHON:-python3}" open-terminal==0.14.5

# Needs a newer Python than the gateway itself; where there is none, a double stands in for it.
for python in python3.12 python3.13 ~/.pyenv/versions/3.12.*/bin/python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        venv openhands "$python" openhands-agent-server==1.58.0
        break
    fi
done
