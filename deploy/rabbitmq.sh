#!/usr/bin/env bash
# A private RabbitMQ node in a folder of its own: the one place that knows where it comes from, how it is
# started, and how it is ended. Tests, benchmarks and the demo all come here.
#
# Everything of a node lies in its DIR (data, log, settings, cookie, process ids). It listens on loopback only,
# on ports of its own, beside a port mapper of its own, so that any number of nodes can stand side by side, and
# beside a RabbitMQ that the machine runs already. It works as root and as any other user.
#
# DIR/node says what the node is (shell assignments), DIR/pid, DIR/epmd.pid and DIR/watch.pid name its processes.
set -euo pipefail

readonly IMAGE=rabbitmq:4
readonly START_SECONDS=90 STOP_SECONDS=30

usage() {
  cat <<'TEXT'
Usage: deploy/rabbitmq.sh COMMAND
  start DIR [OPTION…]                  start a private node; prints its URI, which is also in DIR/uri
                                       --port N      its AMQP port (otherwise a free one)
                                       --owner PID   end the node when that process has ended
                                       --join OTHER  form a cluster with the running node in OTHER
  stop DIR                             end the node and its port mapper; the data stays in DIR
  kill DIR                             kill -9 of the node, as a power cut would
  restart DIR                          start it again: same ports, same data
  ctl DIR ARGUMENT…                    rabbitmqctl for that node
  diagnostics DIR ARGUMENT…            rabbitmq-diagnostics for that node
  install                              install rabbitmq-server with apt where it is missing
  install --version 4.0                unpack RabbitMQ 4.0 from Debian trixie into a cache folder, once, beside
                                       whatever is installed; prints the folder for RABBITMQ_BIN (needs root)
A node comes from: RABBITMQ_BIN (a folder with rabbitmq-server and rabbitmqctl), else an installed
rabbitmq-server, else Docker (rabbitmq:4), else it is installed with apt.
TEXT
}

fail() {
  printf 'rabbitmq.sh: %s\n' "$*" >&2
  exit 1
}

# --- Where a node comes from ---------------------------------------------------------------------------------

# Prints the folder of rabbitmq-server and rabbitmqctl. Debian's /usr/sbin/rabbitmq-server is passed over: it
# wraps the real one, changes the user to `rabbitmq` when root calls it, and refuses everybody else.
server_folder() {
  local candidate
  if [[ -n ${RABBITMQ_BIN:-} ]]; then
    [[ -x $RABBITMQ_BIN/rabbitmq-server ]] || fail "RABBITMQ_BIN is $RABBITMQ_BIN, which has no rabbitmq-server: correct it or unset it"
    readlink -f "$RABBITMQ_BIN"
    return
  fi
  if [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]; then
    echo /usr/lib/rabbitmq/bin
  elif candidate=$(command -v rabbitmq-server); then
    dirname "$(readlink -f "$candidate")"
  else
    return 1
  fi
}

docker_answers() {
  command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    fail "rabbitmq-server is not installed, and installing it needs root or sudo: run 'deploy/rabbitmq.sh install' as root once"
  fi
}

# apt_install PACKAGE…: a package may start services at once, a broker on every interface for one. Nobody asked for
# those, so while apt runs, none is started (policy-rc.d is Debian's way to say so; one that is there already is left alone).
apt_install() {
  echo "rabbitmq.sh: installing $* with apt" >&2
  # shellcheck disable=SC2016 # the inner shell expands it
  as_root sh -eu -c '
    guard=/usr/sbin/policy-rc.d
    if [ ! -e "$guard" ]; then
      trap "rm -f $guard" EXIT
      trap "exit 130" HUP INT TERM
      printf "#!/bin/sh\nexit 101\n" >"$guard"
      chmod 755 "$guard"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    messages=$(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -y --no-install-recommends install "$@" 2>&1) ||
      { echo "$messages"; exit 1; }
  ' apt_install "$@" >&2 || fail "failed to install $* with apt: see its messages above"
}

install_server() {
  command -v apt-get >/dev/null || fail "rabbitmq-server is not installed and there is no apt-get here: install RabbitMQ 3.10 or later, or set RABBITMQ_BIN to its folder"
  apt_install rabbitmq-server
  server_folder >/dev/null || fail "apt installed rabbitmq-server, but it is neither in /usr/lib/rabbitmq/bin nor on PATH"
}

# Prints the folder of the programs of RabbitMQ 4.0, which it unpacks where it is not there yet.
install_version() {
  [[ $1 == 4.0 ]] || fail "install knows no version $1: 4.0 is the only one, and without --version the system's own is installed"
  [[ $(id -u) == 0 ]] || fail "RabbitMQ 4.0 needs root, since it runs from Debian trixie's /usr in mount namespaces: run this as root"
  local cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/cancel-worker tree home said
  tree=$cache/rabbitmq-4.0
  [[ -e $tree ]] || unpack_trixie "$tree"
  # A tree that was unpacked by an earlier version of this script has none.
  [[ -e $tree/bin/rabbitmq-diagnostics ]] || ln -s rabbitmq-server "$tree/bin/rabbitmq-diagnostics"
  # It leaves a cookie in HOME.
  home=$(mktemp -d)
  said=$(HOME=$home "$tree/bin/rabbitmqctl" version 2>&1) || true
  rm -rf "$home"
  [[ $said == 4.0.* ]] || fail "RabbitMQ 4.0 in $tree does not run (is mounting forbidden here? else remove that folder): $said"
  echo "$tree/bin"
}

# Unpacks rabbitmq-server and what it needs into TREE, whole or not at all: the packages' files only, of which nothing is
# configured, started or even run. What debootstrap does beyond that is not needed.
unpack_trixie() {
  command -v apt-get >/dev/null || fail "RabbitMQ 4.0 is made from Debian's packages, and there is no apt-get here: set RABBITMQ_BIN to the folder of another one"
  command -v debootstrap >/dev/null && command -v unshare >/dev/null || apt_install debootstrap debian-archive-keyring util-linux
  mkdir -p "${1%/*}"
  local new package
  new=$(mktemp -d "$1.XXXXXX")
  # shellcheck disable=SC2064 # this folder
  trap "rm -rf '$new'" EXIT
  trap 'exit 130' HUP INT TERM
  echo "rabbitmq.sh: unpacking RabbitMQ 4.0 from Debian trixie into $1" >&2
  debootstrap --foreign --variant=minbase --include=rabbitmq-server trixie "$new/debian" >"$new/log" 2>&1 ||
    { tail -n 20 "$new/log" >&2 && fail "debootstrap failed to fetch Debian trixie: see its messages above"; }
  mkdir "$new/bin" "$new/system"
  for package in "$new/debian/var/cache/apt/archives/"*.deb; do
    dpkg-deb --extract "$package" "$new/system" || fail "failed to unpack $package"
  done
  write_runner "$new/bin/rabbitmq-server"
  ln -s rabbitmq-server "$new/bin/rabbitmqctl"
  ln -s rabbitmq-server "$new/bin/rabbitmq-diagnostics"
  ln -s rabbitmq-server "$new/bin/epmd"
  rm -rf "$new/debian" "$new/log"
  chmod 755 "$new"
  # Whoever was quicker has made the same.
  mv -T "$new" "$1" 2>/dev/null || [[ -x $1/bin/rabbitmq-server ]] || fail "failed to make $1: remove it"
  rm -rf "$new"
  trap - EXIT HUP INT TERM
}

# Writes the script that stands for each program of the tree: it becomes that program, with its process id, environment
# and folders, but where the tree's /usr has taken the place of the system's.
write_runner() {
  cat >"$1" <<'RUNNER'
#!/bin/sh
set -eu
system=$(dirname "$(readlink -f "$0")")/../system
program=/usr/lib/rabbitmq/bin/${0##*/}
[ "${0##*/}" != epmd ] || program=/usr/bin/epmd
exec unshare --mount sh -eu -c 'mount --bind "$0/usr" /usr; exec "$@"' "$system" "$program" "$@"
RUNNER
  chmod 755 "$1"
}

# Sets `kind` and `bin`.
choose_source() {
  kind=server bin=
  # A wrong RABBITMQ_BIN ends the script here; an assignment's failure would otherwise read as "not installed".
  if [[ -n ${RABBITMQ_BIN:-} ]]; then
    bin=$(server_folder)
  elif bin=$(server_folder); then
    :
  elif docker_answers; then
    kind=docker
  else
    install_server
    bin=$(server_folder)
  fi
}

# Prints the port mapper that goes with the node: the one beside it, else Erlang's on PATH.
port_mapper() {
  if [[ -n $bin && -x $bin/epmd ]]; then echo "$bin/epmd"; else command -v epmd; fi
}

# --- Processes -----------------------------------------------------------------------------------------------

# Prints the process id in FILE if that process is alive and this node's: PRIVATE_NODE in its environment says so. An id that the
# system has given to somebody else since, or a zombie that nobody reaps, is nobody.
process_in() {
  local pid try environment
  pid=$(cat "$1" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
  # A process that is just becoming another program shows no environment for a moment; only one that never has any is nobody.
  for try in {1..100}; do
    environment=$({ tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null) || return 1
    [[ -z $environment ]] || break
    [[ $(state_of "$pid") != [ZX]* ]] || return 1
    sleep 0.01
  done
  grep -qxF "PRIVATE_NODE=$dir" <<<"$environment" || return 1
  echo "$pid"
}

# Prints the state and the start time of a process: a zombie has ended, and a process with another start time
# is another one. Fails if there is no such process.
state_of() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The second field, the name, may hold blanks and brackets.
  read -ra stat <<<"${stat##*) }"
  echo "${stat[0]}${stat[19]}"
}

# Waits until the process of FILE is gone, SECONDS at most.
gone_within() {
  local file=$1 end=$((SECONDS + $2))
  while process_in "$file" >/dev/null; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

# Ends the process of FILE with TERM, or with KILL where that does not help, and waits for it.
end_process() {
  local pid
  if pid=$(process_in "$1"); then
    kill -TERM "$pid" 2>/dev/null || true
    if ! gone_within "$1" "$2"; then
      kill -KILL "$pid" 2>/dev/null || true
      gone_within "$1" 10 || fail "process $pid of the node in $dir does not end, not even by kill -9"
    fi
  fi
  rm -f "$1"
}

node_is_up() {
  if [[ $kind == docker ]]; then
    [[ $(docker inspect --format '{{.State.Running}}' "$container" 2>/dev/null) == true ]]
  else
    process_in "$dir/pid" >/dev/null
  fi
}

# Becomes a background process, which must hold nothing of its caller's: neither the pipe in which a test waits
# for our output, nor a lock, nor the terminal, nor the folder. Ends the subshell that it is called in.
become() {
  local fd
  cd "$dir"
  for fd in "/proc/$BASHPID/fd/"*; do
    fd=${fd##*/}
    ((fd <= 2 || fd == 255)) || eval "exec $fd>&-"
  done
  exec setsid "$@" </dev/null >>"$dir/log/console.log" 2>&1
}

# Notes the background process just begun in FILE. The shell is not to report its end.
began() {
  echo "$!" >"$1"
  children+=("$!")
  disown
  # It is this node's, as far as anybody can tell, once it has become what it was begun for: a while on a busy machine.
  local end=$((SECONDS + 10))
  until process_in "$1" >/dev/null || ! kill -0 "$!" 2>/dev/null || ((SECONDS >= end)); do
    sleep 0.02
  done
}

# --- The node's settings -------------------------------------------------------------------------------------

load() {
  [[ -r $dir/node ]] || fail "there is no node in $dir: 'start' makes one"
  # shellcheck source=/dev/null
  source "$dir/node"
}

save() {
  local name
  for name in kind bin nodename port dist_port epmd_port container owner joined; do
    printf '%s=%q\n' "$name" "${!name}"
  done >"$dir/node.new"
  mv "$dir/node.new" "$dir/node"
}

# What a node in a test, a benchmark or a demo needs. The small limits keep a nearly full disk from blocking
# publishers, and the write-ahead log of the quorum queues from taking half a gigabyte for each node.
write_settings() {
  mkdir -p "$dir/home" "$dir/log" "$dir/mnesia" "$dir/schema"
  if [[ $kind == docker ]]; then
    # Inside the container; what is published of it is loopback only.
    printf 'listeners.tcp.default = 5672\nloopback_users = none\n'
  else
    printf 'listeners.tcp.default = 127.0.0.1:%s\n' "$port"
    printf 'log.file.level = info\nlog.console = false\n'
  fi >"$dir/rabbitmq.conf"
  printf 'disk_free_limit.absolute = 10MB\nraft.wal_max_size_bytes = 67108864\n' >>"$dir/rabbitmq.conf"
  # Looked at by a node without data only: so it joins when it is first started.
  [[ -z $joined ]] || printf '%s\n' 'cluster_formation.peer_discovery_backend = classic_config' \
    "cluster_formation.classic_config.nodes.1 = $(other_node nodename)" "cluster_formation.classic_config.nodes.2 = $nodename" >>"$dir/rabbitmq.conf"
  # What a node was lost with on its way out of a wait queue is sent again after so long; the default is three minutes.
  echo '[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}]}].' >"$dir/advanced.config"
  echo '[].' >"$dir/enabled_plugins"
  : >"$dir/rabbitmq-env.conf"
  if [[ -n $joined ]]; then
    cp -f "$joined/home/.erlang.cookie" "$dir/home/.erlang.cookie"
  elif [[ ! -e $dir/home/.erlang.cookie ]]; then
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
  export RABBITMQ_NODENAME=$nodename RABBITMQ_DIST_PORT=$dist_port RABBITMQ_NODE_PORT=$port
  export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
  export RABBITMQ_MNESIA_BASE=$dir/mnesia RABBITMQ_LOG_BASE=$dir/log RABBITMQ_SCHEMA_DIR=$dir/schema
  export RABBITMQ_CONF_ENV_FILE=$dir/rabbitmq-env.conf RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
  export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/advanced.config RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  export RABBITMQ_CTL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
}

# --- Starting ------------------------------------------------------------------------------------------------

in_use() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# RabbitMQ opens its listeners last, and answers an AMQP header with a method frame (its first byte is 1).
answers_amqp() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'AMQP\0\0\11\1' >&3
    IFS= read -r -N 1 -t 5 byte <&3
    [[ $byte == $'\1' ]]
  ) 2>/dev/null
}

# Starts the port mapper on $epmd_port; fails if the port is taken.
start_port_mapper() {
  (
    export_environment
    become "$(port_mapper)" -address 127.0.0.1 -port "$epmd_port"
  ) &
  began "$dir/epmd.pid"
  local end=$((SECONDS + 10))
  while ((SECONDS < end)); do
    kill -0 "$!" 2>/dev/null || return 1
    # A connection proves only that somebody listens there; that we still live shows that it is us.
    if in_use "$epmd_port" && process_in "$dir/epmd.pid" >/dev/null; then
      sleep 0.05
      kill -0 "$!" 2>/dev/null
      return
    fi
    sleep 0.02
  done
  return 1
}

# Chooses three neighbouring ports, below those that systems give to outgoing connections. The port mapper's
# bind takes the first of them, and with it all three: of two starts at once, one has to look further.
choose_ports() {
  local try wanted=$port
  for try in {1..50}; do
    epmd_port=$((12000 + RANDOM % 5000 * 4)) dist_port=$((epmd_port + 1)) port=${wanted:-$((epmd_port + 2))}
    nodename=node$epmd_port@localhost
    if ! in_use "$epmd_port" && ! in_use "$dist_port" && ! in_use "$port" && start_port_mapper; then return; fi
  done
  fail "failed to find three free ports on 127.0.0.1 in $try attempts"
}

# Prints a setting of the node that this one forms a cluster with.
other_node() {
  sed -n "s/^$1=//p" "$joined/node"
}

# Nodes of a cluster share the port mapper of the first, which ends with that one.
choose_joined_ports() {
  local try wanted=$port
  epmd_port=$(other_node epmd_port)
  for try in {1..50}; do
    dist_port=$((12001 + RANDOM % 5000 * 4)) port=${wanted:-$((dist_port + 1))}
    nodename=node$dist_port@localhost
    if ! in_use "$((dist_port - 1))" && ! in_use "$dist_port" && ! in_use "$port"; then return; fi
  done
  fail "failed to find two free ports on 127.0.0.1 in $try attempts"
}

launch_server() {
  if [[ -n $joined ]]; then
    [[ -n $epmd_port ]] || choose_joined_ports
    in_use "$epmd_port" || fail "the port mapper of the node in $joined does not run: start that node first"
  elif [[ -z $epmd_port ]]; then
    choose_ports
  elif ! process_in "$dir/epmd.pid" >/dev/null; then
    start_port_mapper || fail "failed to start the port mapper again: is something else on port $epmd_port?"
  fi
  write_settings
  # RUNNING_UNDER_SYSTEMD makes the start script become the node, so that its process id is the node's.
  (
    export_environment
    export RUNNING_UNDER_SYSTEMD=true
    become "$bin/rabbitmq-server"
  ) &
  began "$dir/pid"
}

launch_container() {
  write_settings
  chmod 644 "$dir/rabbitmq.conf" "$dir/enabled_plugins" # the image's user reads them
  # Named and noted beforehand: a container that did not come up is to be taken away too.
  container=private-rabbitmq-$RANDOM$RANDOM
  save
  local user=()
  # As root the image changes to its own user by itself; otherwise the files in DIR stay the caller's.
  [[ $(id -u) == 0 ]] || user=(--user "$(id -u):$(id -g)")
  docker run --detach --name "$container" "${user[@]}" \
    --publish "127.0.0.1:$port:5672" \
    --env "RABBITMQ_NODENAME=rabbit@localhost" \
    --volume "$dir/mnesia:/var/lib/rabbitmq" \
    --volume "$dir/rabbitmq.conf:/etc/rabbitmq/conf.d/90-private.conf:ro" \
    --volume "$dir/enabled_plugins:/etc/rabbitmq/enabled_plugins" \
    "$IMAGE" >"$dir/log/console.log"
  port=$(docker port "$container" 5672/tcp | head -n 1)
  port=${port##*:}
}

# Shows what the node said last, and leaves no process behind.
start_failed() {
  trap - EXIT
  local child
  # Killed as our children, not by what they are: one of them may not have become the node yet.
  for child in "${children[@]}"; do kill -KILL "$child" 2>/dev/null || true; done
  echo "rabbitmq.sh: the node in $dir did not start; its log is in $dir/log and ends so:" >&2
  if [[ $kind == docker ]]; then
    [[ -z $container ]] || docker logs --tail 30 "$container" >&2 || true
  else
    tail -q -n 40 "$dir/log/$nodename.log" "$dir/log/console.log" >&2 2>/dev/null || true
  fi
  end_node 5
  # A node that never was is no node: the folder can be used again.
  [[ -e $dir/uri ]] || rm -f "$dir/node"
  exit 1
}

wait_until_ready() {
  local end=$((SECONDS + START_SECONDS))
  until answers_amqp; do
    node_is_up || fail "the node ended while it was starting"
    ((SECONDS < end)) || fail "the node did not answer on port $port within $START_SECONDS s"
    sleep 0.1
  done
}

# With --owner: a process of its own waits for the owner's end, however that comes, and then stops the node.
watch_owner() {
  [[ -n $owner ]] && ! process_in "$dir/watch.pid" >/dev/null || return 0
  (
    export PRIVATE_NODE=$dir
    become "$self" watch "$dir"
  ) &
  began "$dir/watch.pid"
}

launch() {
  trap start_failed EXIT
  trap 'exit 130' HUP INT TERM
  if [[ $kind == docker ]]; then launch_container; else launch_server; fi
  save
  wait_until_ready
  watch_owner
  printf 'amqp://guest:guest@127.0.0.1:%s/%%2f\n' "$port" >"$dir/uri"
  trap - EXIT HUP INT TERM
  cat "$dir/uri"
}

# --- Ending --------------------------------------------------------------------------------------------------

# A node whose port mapper was lost begets another one, which no file here names.
end_other_port_mappers() {
  local file
  while IFS= read -r file; do
    file=${file%/environ}
    if [[ $(cat "$file/comm" 2>/dev/null) == epmd ]]; then kill -TERM "${file#/proc/}" 2>/dev/null || true; fi
  done < <(grep -lzxF "PRIVATE_NODE=$dir" /proc/[0-9]*/environ 2>/dev/null)
}

# Ends everything of the node, giving it SECONDS to do so by itself.
end_node() {
  local watcher
  if watcher=$(process_in "$dir/watch.pid"); then kill -TERM -- "-$watcher" 2>/dev/null || true; fi
  rm -f "$dir/watch.pid"
  if [[ $kind == docker ]]; then
    [[ -z $container ]] && return
    docker stop -t "$1" "$container" >/dev/null 2>&1 || true
    docker rm --force --volumes "$container" >/dev/null 2>&1 || true
    container=
    save
  else
    end_process "$dir/pid" "$1"
    end_process "$dir/epmd.pid" 5
    end_other_port_mappers
  fi
}

# --- The commands --------------------------------------------------------------------------------------------

start() {
  kind='' bin='' nodename='' port='' dist_port='' epmd_port='' container='' owner='' joined=''
  local wanted_port='' wanted_owner=''
  while (($#)); do
    case $1 in
      --port) wanted_port=${2:-} ;;
      --owner) wanted_owner=${2:-} ;;
      --join)
        joined=$(cd "${2:-}" 2>/dev/null && pwd -P) && [[ -r $joined/node ]] || fail "--join needs the folder of a node"
        shift 2
        continue
        ;;
      *) fail "start does not know $1" ;;
    esac
    [[ ${2:-} =~ ^[0-9]+$ ]] || fail "$1 needs a number"
    shift 2
  done
  [[ ! -e $dir/node ]] || fail "there is a node in $dir already: 'restart' starts it again"
  [[ -z $wanted_port ]] || ! in_use "$wanted_port" || fail "port $wanted_port is in use: choose another, or leave --port out"
  port=$wanted_port owner=$wanted_owner
  choose_source
  [[ $kind != docker || -z $joined ]] || fail "a cluster needs an installed rabbitmq-server: run 'deploy/rabbitmq.sh install'"
  mkdir -p "$dir/log"
  [[ $kind == docker ]] || port_mapper >/dev/null || fail "epmd is not on PATH: it comes with Erlang, which RabbitMQ needs"
  launch
}

restart() {
  load
  if node_is_up; then fail "the node in $dir is running: 'stop' or 'kill' it first"; fi
  # A killed container is taken away; its data is in DIR.
  if [[ -n $container ]]; then docker rm --force "$container" >/dev/null; fi
  launch
}

stop() {
  load
  end_node "$STOP_SECONDS"
}

kill_node() {
  load
  node_is_up || fail "the node in $dir is not running"
  if [[ $kind == docker ]]; then
    docker kill "$container" >/dev/null
  else
    kill -KILL "$(process_in "$dir/pid")"
    gone_within "$dir/pid" 10 || fail "the node in $dir does not end"
  fi
}

# tool PROGRAM ARGUMENT…: becomes one of RabbitMQ's command line tools, for this node.
tool() {
  local program=$1
  shift
  load
  node_is_up || fail "the node in $dir is not running: 'restart' starts it"
  if [[ $kind == docker ]]; then
    exec docker exec "$container" "$program" --node rabbit@localhost "$@"
  fi
  export_environment
  exec "$bin/$program" --node "$nodename" "$@"
}

ctl() {
  tool rabbitmqctl "$@"
}

diagnostics() {
  tool rabbitmq-diagnostics "$@"
}

# The owner is there for as long as this stays the same.
owner_state() {
  local state
  state=$(state_of "$owner") && [[ $state != [ZX]* ]] && echo "${state:1}"
}

watch() {
  load
  local first now
  first=$(owner_state) || first=
  while now=$(owner_state) && [[ $now == "$first" ]]; do sleep 0.5; done
  rm -f "$dir/watch.pid"
  end_node "$STOP_SECONDS"
}

joined='' # of nodes whose file does not say so
children=() # the background processes begun here
self=$(readlink -f "${BASH_SOURCE[0]}")
command=${1:-}
case $command in
  install)
    case $#/${2:-} in
      1/) server_folder >/dev/null || install_server ;;
      3/--version) install_version "$3" ;;
      *) fail "install takes nothing but --version 4.0" ;;
    esac
    exit
    ;;
  start | stop | kill | restart | ctl | diagnostics | watch) ;;
  -h | --help | help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac
[[ -n ${2:-} ]] || fail "$command needs the node's folder"
umask 077
[[ $command != start ]] || mkdir -p "$2"
dir=$(cd "$2" 2>/dev/null && pwd -P) || fail "there is no folder $2"
shift 2
case $command in
  start) start "$@" ;;
  kill) kill_node ;;
  *) "$command" "$@" ;;
esac
