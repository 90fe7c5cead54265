#!/usr/bin/env bash
# deploy/rabbitmq.sh COMMAND: a private RabbitMQ node in a folder of its own. Tests, benchmarks and the demo use it.
#
#   start DIR [OPTION…]          start a node; prints its URI, which is also in DIR/uri
#       --port N                 its AMQP port (otherwise a free one)
#       --owner PID              end the node when that process has ended
#       --join OTHER             form a cluster with the running node in OTHER
#   stop DIR                     end the node and its port mapper; the data stays in DIR
#   kill DIR                     kill -9 of the node, as a power cut would
#   restart DIR                  start it again: same ports, same data
#   ctl DIR ARGUMENT…            rabbitmqctl for that node
#   diagnostics DIR ARGUMENT…    rabbitmq-diagnostics for that node
#   queues DIR ARGUMENT…         rabbitmq-queues for that node
#   install                      install rabbitmq-server with apt where it is missing
#   install --version 4.0        unpack RabbitMQ 4.0 from Debian trixie into a cache folder, once, beside whatever is
#                                installed; prints the folder for RABBITMQ_BIN (needs root)
#
# A node comes from RABBITMQ_BIN (a folder with rabbitmq-server and rabbitmqctl), else from the installed
# rabbitmq-server, else that is installed with apt.
#
# Everything of a node lies in its DIR: data, log, settings, cookie. A node listens on loopback only, on ports of its own,
# its port mapper's (epmd) included: any number of nodes can run side by side, and beside a RabbitMQ that the machine has.
# It works as root and as any other user.
set -euo pipefail

readonly START_SECONDS=90 STOP_SECONDS=30

usage() { # the comment above
  sed -n '2,/^set /{s/^# \{0,1\}//p}' "$self"
}

fail() {
  printf 'rabbitmq.sh: %s\n' "$*" >&2
  exit 1
}

# --- Where a node comes from ---------------------------------------------------------------------------------

# Sets `bin`, the folder of rabbitmq-server and rabbitmqctl; fails if there is none. Debian's /usr/sbin/rabbitmq-server is
# not used: it wraps the real one, changes the user to `rabbitmq` when root calls it, and refuses other users.
find_server() {
  local program
  if [[ -n ${RABBITMQ_BIN:-} ]]; then
    bin=$(readlink -f "$RABBITMQ_BIN")
    [[ -x $bin/rabbitmq-server ]] || fail "RABBITMQ_BIN is $RABBITMQ_BIN, which has no rabbitmq-server: correct it or unset it"
  elif [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]; then
    bin=/usr/lib/rabbitmq/bin
  elif program=$(command -v rabbitmq-server); then
    bin=$(dirname "$(readlink -f "$program")")
  else
    return 1
  fi
}

# The package would start a broker on every interface, which nobody asked for. So no service is started while apt runs:
# policy-rc.d is Debian's way to say so, and one that is there already is left alone.
install_server() {
  local sudo=()
  command -v apt-get >/dev/null ||
    fail "rabbitmq-server is not installed and there is no apt-get here: install RabbitMQ 3.10 or later, or set RABBITMQ_BIN to its folder"
  if [[ $(id -u) != 0 ]]; then
    sudo -n true 2>/dev/null || { [[ -t 0 ]] && command -v sudo >/dev/null; } ||
      fail "rabbitmq-server is not installed, and installing it needs root or sudo: run 'deploy/rabbitmq.sh install' as root once"
    sudo=(sudo)
  fi
  echo "rabbitmq.sh: installing rabbitmq-server with apt" >&2
  "${sudo[@]}" sh -eu >&2 <<'ROOT' || fail "failed to install rabbitmq-server with apt: see its messages above"
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
  trap 'rm -f "$guard"' EXIT
  trap 'exit 130' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$guard"
  chmod 755 "$guard"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null
apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -y --no-install-recommends install rabbitmq-server </dev/null
ROOT
  find_server || fail "apt installed rabbitmq-server, but it is neither in /usr/lib/rabbitmq/bin nor on PATH"
}

# Prints the folder of the programs of RabbitMQ 4.0, which it unpacks where it is not there yet.
install_version() {
  [[ $1 == 4.0 ]] || fail "install knows no version $1: 4.0 is the only one, and without --version the system's own is installed"
  [[ $(id -u) == 0 ]] || fail "RabbitMQ 4.0 needs root, since it runs from Debian trixie's /usr in mount namespaces: run this as root"
  local tree=${XDG_CACHE_HOME:-${HOME:?}/.cache}/cancel-worker/rabbitmq-4.0 lock said program
  mkdir -p "${tree%/*}"
  exec {lock}>"$tree.lock"
  flock "$lock"
  [[ -e $tree ]] || unpack_trixie "$tree"
  # A tree of before may miss one.
  for program in rabbitmqctl rabbitmq-diagnostics rabbitmq-queues; do
    ln -sf rabbitmq-server "$tree/bin/$program"
  done
  # It leaves a cookie in HOME.
  said=$(HOME=$tree "$tree/bin/rabbitmqctl" version 2>&1) || true
  [[ $said == 4.0.* ]] || fail "RabbitMQ 4.0 in $tree does not run (is mounting forbidden here? else remove that folder): $said"
  echo "$tree/bin"
}

# Unpacks rabbitmq-server and all that it needs, down to the C library and the shell, into TREE, whole or not at all: the
# packages' files only, of which nothing is configured or started. apt fetches and checks them as for an empty system.
unpack_trixie() {
  local tree=$1 new=$1.new keys=/usr/share/keyrings/debian-archive-keyring.gpg package
  [[ -e $keys ]] || fail "RabbitMQ 4.0 is made from Debian's packages, and $keys, which checks them, is missing: install debian-archive-keyring, or set RABBITMQ_BIN to the folder of another RabbitMQ"
  echo "rabbitmq.sh: unpacking RabbitMQ 4.0 from Debian trixie into $tree, from 75 MB of packages" >&2
  rm -rf "$new"
  mkdir -p "$new"/{bin,system,apt/{archives,lists}/partial,apt/preferences.d}
  echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$new/apt/sources.list"
  : >"$new/apt/status"
  local apt=(apt-get -qq -y -o Dir::State="$new/apt" -o Dir::State::status="$new/apt/status" -o Dir::Cache="$new/apt"
    -o Dir::Etc="$new/apt" -o APT::Sandbox::User=root -o APT::Architectures="$(dpkg --print-architecture)")
  { "${apt[@]}" update && "${apt[@]}" --download-only --no-install-recommends install '?essential' rabbitmq-server; } >&2 ||
    fail "apt failed to fetch Debian trixie's packages: see its messages above"
  for package in "$new/apt/archives/"*.deb; do
    dpkg-deb --extract "$package" "$new/system" || fail "failed to unpack $package"
  done
  rm -rf "$new/apt"
  # One script stands for each program: it becomes that program, with its process id, environment and folders, but where
  # the tree's /usr has taken the place of the system's.
  cat >"$new/bin/rabbitmq-server" <<'RUNNER'
#!/bin/sh
set -eu
system=$(dirname "$(readlink -f "$0")")/../system
exec unshare --mount sh -eu -c 'mount --bind "$0/usr" /usr; exec "$@"' "$system" "/usr/lib/rabbitmq/bin/${0##*/}" "$@"
RUNNER
  chmod 755 "$new/bin/rabbitmq-server"
  mv "$new" "$tree"
}

# --- Processes -----------------------------------------------------------------------------------------------

# Prints the id and the start time of a process: an id that was given to another process later has another time. Fails if
# the process has ended; a zombie has.
identity() {
  local stat fields
  [[ $1 =~ ^[0-9]+$ ]] || return 1
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The second field, the name, may hold blanks and brackets.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] && echo "$1 ${fields[19]}"
}

# Whether the process in FILE lives.
is_running() {
  local pid start
  read -r pid start 2>/dev/null <"$dir/$1" && [[ $(identity "$pid") == "$pid $start" ]]
}

# begin FILE COMMAND…: begins a background process and notes it in FILE. It holds nothing of our caller's: neither the pipe
# in which a test waits for our output, nor a lock, nor the terminal, nor the folder.
begin() {
  local file=$1 fd
  shift
  (
    cd "$dir"
    for fd in "/proc/$BASHPID/fd/"*; do
      fd=${fd##*/}
      ((fd <= 2 || fd == 255)) || exec {fd}>&-
    done
    exec setsid "$@" </dev/null >>"$dir/log/console.log" 2>&1
  ) &
  identity "$!" >"$dir/$file" || true
  disown # the shell is not to report its end
}

# send FILE SIGNAL SECONDS: sends it to the process in FILE, and waits until that is gone, SECONDS at most.
send() {
  local end=$((SECONDS + $3)) pid
  read -r pid _ <"$dir/$1"
  kill "-$2" "$pid" 2>/dev/null || true
  while is_running "$1"; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

# Ends the process in FILE with TERM, or with KILL where that does not help within SECONDS.
end_process() {
  ! is_running "$1" || send "$1" TERM "$2" || send "$1" KILL 10 ||
    fail "the process in $dir/$1 does not end, not even by kill -9"
  rm -f "$dir/$1"
}

# --- The node's settings -------------------------------------------------------------------------------------

# DIR/node says what the node is; DIR/pid and DIR/watch.pid name its processes.
load() {
  [[ -r $dir/node ]] || fail "there is no node in $dir: 'start' makes one"
  # shellcheck source=/dev/null
  source "$dir/node"
}

save() {
  local name
  for name in bin nodename port dist_port epmd_port owner joined; do
    printf '%s=%q\n' "$name" "${!name}"
  done >"$dir/node"
}

# Prints a setting of the node that this one forms a cluster with.
other_node() {
  sed -n "s/^$1=//p" "$joined/node"
}

# What a node in a test, a benchmark or a demo needs. The small limits keep a nearly full disk from blocking
# publishers, and the write-ahead log of the quorum queues from taking half a gigabyte for each node.
write_settings() {
  mkdir -p "$dir/home" "$dir/log" "$dir/mnesia" "$dir/schema"
  cat >"$dir/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$port
disk_free_limit.absolute = 10MB
raft.wal_max_size_bytes = 67108864
CONF
  # A message that a lost node held on its way out of a wait queue is sent again after 5 s; the default is three minutes.
  echo '[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].' >"$dir/advanced.config"
  echo '[].' >"$dir/enabled_plugins"
  : >"$dir/rabbitmq-env.conf"
  if [[ -n $joined ]]; then
    # Looked at by a node without data only: so it joins when it is first started.
    cat >>"$dir/rabbitmq.conf" <<CONF
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = $(other_node nodename)
cluster_formation.classic_config.nodes.2 = $nodename
CONF
    cp -f "$joined/home/.erlang.cookie" "$dir/home/"
  elif [[ ! -e $dir/home/.erlang.cookie ]]; then # Erlang would make one that can be guessed
    head -c 24 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' >"$dir/home/.erlang.cookie"
    chmod 400 "$dir/home/.erlang.cookie"
  fi
}

# Whatever the caller's environment or /etc/rabbitmq say about another RabbitMQ is not this node's business.
export_environment() {
  local name
  for name in "${!RABBITMQ_@}" "${!ERL_@}" NOTIFY_SOCKET; do unset "$name"; done
  export HOME=$dir/home LC_ALL=C.UTF-8 PRIVATE_NODE=$dir
  export ERL_CRASH_DUMP=$dir/log/erl_crash.dump ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_NODENAME=$nodename RABBITMQ_DIST_PORT=$dist_port
  export RABBITMQ_MNESIA_BASE=$dir/mnesia RABBITMQ_LOG_BASE=$dir/log RABBITMQ_SCHEMA_DIR=$dir/schema
  export RABBITMQ_CONF_ENV_FILE=$dir/rabbitmq-env.conf RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
  export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  export RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  # Makes the start script become the node, so that its process id is the node's.
  export RUNNING_UNDER_SYSTEMD=true
}

# --- Starting and ending -------------------------------------------------------------------------------------

in_use() (
  exec 3<>"/dev/tcp/127.0.0.1/$1"
) 2>/dev/null

# RabbitMQ opens its listeners last, and answers an AMQP header with a method frame (its first byte is 1).
answers_amqp() (
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  printf 'AMQP\0\0\11\1' >&3
  IFS= read -r -N 1 -t 5 byte <&3
  [[ $byte == $'\1' ]]
) 2>/dev/null

# Chooses neighbouring ports, below those that systems give to outgoing connections. They follow from our process id, for
# the node takes them only seconds later: of several starts at once, each begins its search elsewhere.
choose_ports() {
  local try first
  for try in {0..49}; do
    first=$((12000 + ($$ + try * 997) % 5000 * 4))
    nodename=node$first@localhost epmd_port=$first dist_port=$((first + 1)) port=$((first + 2))
    in_use "$epmd_port" || in_use "$dist_port" || in_use "$port" || return 0
  done
  fail "failed to find three free ports on 127.0.0.1 in 50 attempts"
}

# Shows what the node said last, and leaves no process behind.
start_failed() {
  trap - EXIT
  echo "rabbitmq.sh: the node in $dir did not start; its log is in $dir/log and ends so:" >&2
  tail -q -n 40 "$dir/log/$nodename.log" "$dir/log/console.log" >&2 2>/dev/null || true
  end_node 5
  # A node that never was is no node: the folder can be used again.
  [[ -e $dir/uri ]] || rm -f "$dir/node"
  exit 1
}

launch() {
  [[ -z $joined ]] || in_use "$epmd_port" || fail "the port mapper of the node in $joined does not run: start that node first"
  trap start_failed EXIT
  trap 'exit 130' HUP INT TERM
  save
  write_settings
  export_environment
  begin pid "$bin/rabbitmq-server"
  local end=$((SECONDS + START_SECONDS))
  until answers_amqp; do
    is_running pid || fail "the node ended while it was starting"
    ((SECONDS < end)) || fail "the node did not answer on port $port within $START_SECONDS s"
    sleep 0.1
  done
  [[ -z $owner ]] || is_running watch.pid || begin watch.pid "$self" watch "$dir"
  printf 'amqp://guest:guest@127.0.0.1:%s/%%2f\n' "$port" >"$dir/uri"
  trap - EXIT HUP INT TERM
  cat "$dir/uri"
}

# Ends everything of the node, with SECONDS for it to end by itself. Its port mapper is a process apart, which Erlang
# starts where none answers, by a program that may outlive a node: PRIVATE_NODE in the environment tells whose they are.
end_node() {
  local file
  end_process watch.pid 5
  end_process pid "$1"
  while IFS= read -r file; do
    file=${file%/environ}
    if [[ $(cat "$file/comm" 2>/dev/null) == @(epmd|beam.smp) ]]; then kill -KILL "${file#/proc/}" 2>/dev/null || true; fi
  done < <(grep -lzxF "PRIVATE_NODE=$dir" /proc/[0-9]*/environ 2>/dev/null)
}

# --- The commands --------------------------------------------------------------------------------------------

start_node() {
  local wanted_port=''
  joined='' owner=''
  while (($#)); do
    (($# > 1)) || fail "start takes options with a value each, and $1 has none"
    case $1 in
      --port) wanted_port=$2 ;;
      --owner) owner=$(identity "$2") || fail "--owner needs the id of a process" ;;
      --join) joined=$(cd "$2" 2>/dev/null && pwd -P) || fail "--join needs the folder of a node" ;;
      *) fail "start does not know $1" ;;
    esac
    shift 2
  done
  [[ ! -e $dir/node ]] || fail "there is a node in $dir already: 'restart' starts it again"
  [[ -z $joined || -r $joined/node ]] || fail "--join needs the folder of a node, and $joined is none"
  [[ $wanted_port =~ ^[0-9]*$ ]] || fail "--port needs a number"
  ! in_use "${wanted_port:-0}" || fail "port $wanted_port is in use: choose another, or leave --port out"
  find_server || install_server
  choose_ports
  port=${wanted_port:-$port}
  # Nodes of a cluster share the port mapper of the first, which ends with that one.
  [[ -z $joined ]] || epmd_port=$(other_node epmd_port)
  launch
}

restart_node() {
  load
  ! is_running pid || fail "the node in $dir is running: 'stop' or 'kill' it first"
  launch
}

stop_node() {
  load
  end_node "$STOP_SECONDS"
}

kill_node() {
  load
  is_running pid || fail "the node in $dir is not running"
  send pid KILL 10 || fail "the node in $dir does not end"
}

# tool PROGRAM ARGUMENT…: becomes one of RabbitMQ's command line tools, for this node.
tool() {
  load
  is_running pid || fail "the node in $dir is not running: 'restart' starts it"
  export_environment
  exec "$bin/$1" --node "$nodename" "${@:2}"
}

ctl_node() { tool rabbitmqctl "$@"; }
diagnostics_node() { tool rabbitmq-diagnostics "$@"; }
queues_node() { tool rabbitmq-queues "$@"; }

# With --owner: waits in the background for the owner's end, however that comes, and then stops the node.
watch_node() {
  load
  while [[ $(identity "${owner% *}") == "$owner" ]]; do sleep 0.5; done
  rm -f "$dir/watch.pid"
  end_node "$STOP_SECONDS"
}

self=$(readlink -f "${BASH_SOURCE[0]}")
command=${1:-}
case $command in
  start | stop | kill | restart | ctl | diagnostics | queues | watch)
    [[ -n ${2:-} ]] || fail "$command needs the node's folder"
    umask 077
    [[ $command != start ]] || mkdir -p "$2"
    dir=$(cd "$2" 2>/dev/null && pwd -P) || fail "there is no folder $2"
    "${command}_node" "${@:3}"
    ;;
  install)
    case $#/${2:-} in
      1/) find_server || install_server ;;
      3/--version) install_version "$3" ;;
      *) fail "install takes nothing but --version 4.0" ;;
    esac
    ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
