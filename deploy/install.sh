#!/usr/bin/env bash
# Installs, upgrades, rolls back and removes the platform on Debian 12 or newer. Says each step; doing it
# again does no harm. deploy/README.md tells the story.
set -euo pipefail

usage() {
    cat <<'TEXT'
install.sh COMMAND [OPTION]…
  all          everything on this machine (web, workers, PostgreSQL, Redis, nginx); again: upgrade
  worker       a machine that only works: needs /etc/qlib-platform/environment, copied from the first
  rollback     back to the release before
  uninstall    stop and remove programs and units; data stay (--purge removes them too)
What is chosen by options is kept in /etc/qlib-platform/choices: an upgrade needs none of them.
  --host NAME       the name under which browsers come (default: this machine's)
  --workers LIST    units to run, such as cpu-1,cpu-2,torch-1 (default: cpu-1)
  --webs N          web processes, at most 9 (default: 1)
  --models          install XGBoost and CatBoost too
  --s3              install what artifacts in an S3-compatible store need
  --certificate FILE --key FILE    TLS; without, one is made that browsers warn of
  --python PROGRAM  the interpreter, 3.11 or 3.12 (default: python3)
  --dry-run         say each step, do nothing
TEXT
}

SOURCE="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
COMMAND="${1:-}"
[ $# -gt 0 ] && shift
OPT=/opt/qlib-platform ETC=/etc/qlib-platform STATE=/var/lib/qlib-platform BACKUPS=/var/backups/qlib-platform
UNITS=/etc/systemd/system
HOST="$(hostname -f 2>/dev/null || hostname)" WORKERS=cpu-1 WEBS=1 SETS="base worker" DRY="" PURGE=""
CERTIFICATE="$ETC/tls.crt" KEY="$ETC/tls.key" PYTHON=python3
# An upgrade is given no options: it keeps to what was chosen before.
# shellcheck source=/dev/null
[ ! -r "$ETC/choices" ] || . "$ETC/choices"
refuse() { printf '%s\n' "$@" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case "$1" in
        --host | --workers | --webs | --certificate | --key | --python)
            # An option in the place of a value would be swallowed, and --dry-run is one.
            case "${2:-}" in '' | -*) refuse "$1 needs a value." ;; esac
            name="${1#--}"
            printf -v "${name^^}" %s "$2"
            shift
            ;;
        --models) SETS="$SETS models" ;;
        --s3) SETS="$SETS s3" ;;
        --dry-run) DRY=1 ;;
        --purge) PURGE=1 ;;
        *) echo "There is no option $1." >&2; usage >&2; exit 2 ;;
    esac
    shift
done
# Paths are kept, and read from elsewhere; a link stays one, for renewed certificates stand behind it.
CERTIFICATE="$(realpath -sm -- "$CERTIFICATE")" KEY="$(realpath -sm -- "$KEY")"
[[ "$PYTHON" != */* ]] || PYTHON="$(realpath -sm -- "$PYTHON")"
# A folder that every user may enter.
cd /

# A checkout may be another user's; git names no commit of such a one unless it is told to.
RELEASE="$(git -c safe.directory='*' -C "$SOURCE" rev-parse --short=12 HEAD 2>/dev/null || cat "$SOURCE/RELEASE" 2>/dev/null || true)"
NEW="$OPT/releases/$RELEASE"

# What an installation would stumble over half-way, such as a name with a space in nginx's settings.
check() {
    local file queue='(cpu|torch|gpu)-[0-9]+'
    [[ "$HOST" =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || refuse "--host: '$HOST' is no host's name."
    [[ "$WORKERS" =~ ^$queue(,$queue)*$ ]] || refuse "--workers: '$WORKERS' is no list of units such as cpu-1,gpu-1: a queue (cpu, torch, gpu) and a number."
    [[ "$WEBS" =~ ^[1-9]$ ]] || refuse "--webs: '$WEBS' is no number from 1 to 9."
    check_python
    # Two releases of one name would be taken for each other.
    [[ "$RELEASE" =~ ^[A-Za-z0-9._-]+$ ]] || refuse "$SOURCE is no checkout whose commit git can name; without git, write a name into $SOURCE/RELEASE."
    [ "$COMMAND" = all ] || return 0
    for file in "$CERTIFICATE" "$KEY"; do
        [[ "$file" =~ ^/[A-Za-z0-9/._@+=,-]+$ ]] || refuse "'$file' is no path that nginx's settings can hold."
    done
    if [ "$CERTIFICATE $KEY" != "$ETC/tls.crt $ETC/tls.key" ]; then
        for file in "$CERTIFICATE" "$KEY"; do [ -r "$file" ] || refuse "There is no file $file to be read (--certificate, --key)."; done
        if command -v openssl >/dev/null && [ "$(public_key x509 -pubkey -noout -in "$CERTIFICATE")" != "$(public_key pkey -pubout -passin pass: -in "$KEY")" ]; then
            refuse "The key in $KEY is not that of the certificate in $CERTIFICATE, or cannot be read without a password."
        fi
    fi
}
public_key() { openssl "$@" 2>/dev/null || echo "$1 failed"; }
# Debian's own may be missing yet: it is one of the packages.
check_python() {
    [ "$PYTHON" != python3 ] || command -v python3 >/dev/null || return 0
    "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null ||
        refuse "Python 3.11 or 3.12 is needed, and $PYTHON is none: name one by --python."
}

OWED=
step() { printf '\n== %s\n' "$*"; }
run() {
    if [ -n "$DRY" ]; then printf '   would run: %s\n' "$*"; else "$@"; fi
}
# write FILE MODE OWNER: standard input becomes the file, by one rename.
write() {
    local text; text="$(cat)"
    if [ -n "$DRY" ]; then printf '   would write %s (%s, %s)\n' "$1" "$2" "$3"; return; fi
    install -m "$2" -o "${3%:*}" -g "${3#*:}" /dev/null "$1.new"
    printf '%s\n' "$text" > "$1.new"
    mv "$1.new" "$1"
}
# owe SERVER: it is to be restarted, by the next run if this one does not come so far.
owe() { OWED="$OWED $1 "; [ -n "$DRY" ] || : > "$ETC/restart-$1"; }
# settle SERVER FILE MODE OWNER: a server's file, where it is another than standard input.
settle() {
    local text; text="$(cat)"
    if [ -e "$2" ] && [ "$(cat "$2")" = "$text" ]; then return; fi
    owe "$1"
    write "$2" "$3" "$4" <<<"$text"
}
has_systemd() { [ -d /run/systemd/system ]; }
systemd() {
    if [ -z "$DRY" ] && ! has_systemd; then echo "   systemd does not run here; later: systemctl $*"; return; fi
    run systemctl "$@"
}
# serve SERVER: it is restarted for new settings only; an upgrade does not cut its connections.
serve() {
    local what=start
    if [[ "$OWED" == *" $1 "* ]] || [ -e "$ETC/restart-$1" ]; then what=restart; fi
    systemd "$what" "$1"
    has_systemd || run service "$1" "$what"
    OWED="${OWED// $1 /}"
    run rm -f "$ETC/restart-$1"
}
secret() { openssl rand -hex 24; }
setting() { sed -n "s/^$1=//p" "$ETC/environment"; }
password_of() { setting "$1" | sed -E 's#^[a-z]+://[^:]*:([^@]*)@.*#\1#'; }

packages() {
    step "Debian packages: $*"
    run env DEBIAN_FRONTEND=noninteractive apt-get update -q
    run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

user_and_folders() {
    step "User qlib and its folders"
    id qlib >/dev/null 2>&1 || run useradd --system --home-dir "$STATE" --shell /usr/sbin/nologin qlib
    run install -d -m 0755 "$OPT" "$OPT/releases"
    run install -d -m 0750 -o root -g qlib "$ETC"
    # The group may pass, for nginx: it serves artifacts.
    run install -d -m 0710 -o qlib -g qlib "$STATE"
    run install -d -m 2750 -o qlib -g qlib "$STATE/artifacts"
    run install -d -m 0700 -o qlib -g qlib "$STATE/datasets" "$STATE/scratch" "$BACKUPS"
}

release_files() {
    run rm -rf "$NEW"
    run install -d -m 0755 "$NEW"
    run cp -a "$SOURCE/manage.py" "$SOURCE/pyproject.toml" "$SOURCE/qlibplatform" "$SOURCE/training" \
        "$SOURCE/requirements" "$SOURCE/deploy" "$NEW/"
    run "$PYTHON" -m venv "$NEW/.venv"
    run "$NEW/.venv/bin/pip" install -q --require-hashes --no-deps -r "$NEW/requirements/installer.txt"
}

release() {
    step "Release $RELEASE in $NEW"
    if [ -e "$NEW/.complete" ]; then echo "   its files are there already"; else release_files; fi
    local files=() name
    for name in $(printf '%s\n' $SETS | sort -u); do files+=(-r "$NEW/requirements/$name.txt"); done
    run "$NEW/.venv/bin/uv" pip install -q --python "$NEW/.venv/bin/python" --compile-bytecode \
        --require-hashes --no-deps --no-build-isolation "${files[@]}"
    write "$NEW/RELEASE" 0644 root:root <<<"$RELEASE"
    run touch "$NEW/.complete"
}

# allow SETTING NAME: the name is put into the list, before what is there: what is not in it is answered with 400.
allow() {
    local there; there="$(setting "$1")"
    case ",$there," in *",$2,"* | *",.${2#*.},"* | *',*,'*) return ;; esac
    echo "   but $1 gets $2 too"
    grep -q "^$1=" "$ETC/environment" || [ -n "$DRY" ] || echo "$1=" >> "$ETC/environment"
    run sed -i "s#^$1=.*#$1=$2${there:+,$there}#" "$ETC/environment"
}

environment() {
    step "Settings in $ETC/environment"
    if [ -e "$ETC/environment" ]; then
        echo "   are there already, and stay"
        allow PLATFORM_ALLOWED_HOSTS "$HOST"
        allow PLATFORM_ALLOWED_ORIGINS "https://$HOST"
        return
    fi
    sed -e "s/@SECRET_KEY@/$(secret)$(secret)/" -e "s/@DATABASE_PASSWORD@/$(secret)/" \
        -e "s/@REDIS_PASSWORD@/$(secret)/" -e "s/@HOST@/$HOST/g" "$SOURCE/deploy/environment" |
        write "$ETC/environment" 0600 root:root
}

choices() {
    step "What was chosen, for the next upgrade, in $ETC/choices"
    { for name in HOST WORKERS WEBS SETS CERTIFICATE KEY PYTHON; do printf '%s=%q\n' "$name" "${!name}"; done; } |
        write "$ETC/choices" 0644 root:root
}

manage_command() {
    step "The command qlib-manage"
    write /usr/local/sbin/qlib-manage 0755 root:root <<'TEXT'
#!/bin/sh
# manage.py as the platform's user, with the platform's settings.
set -ae
. /etc/qlib-platform/environment
PLATFORM_RELEASE="$(cat /opt/qlib-platform/current/RELEASE)"
cd /opt/qlib-platform/current
exec setpriv --reuid qlib --regid qlib --init-groups .venv/bin/python manage.py "$@"
TEXT
}

database() {
    step "PostgreSQL: role and database qlib"
    local conf
    for conf in /etc/postgresql/*/main; do
        [ -n "$DRY" ] || [ -d "$conf" ] || { echo "   PostgreSQL has no cluster in /etc/postgresql" >&2; exit 1; }
        settle postgresql "$conf/conf.d/qlib-platform.conf" 0644 root:root < "$SOURCE/deploy/postgresql.conf"
    done
    serve postgresql
    if [ -n "$DRY" ]; then echo "   would make the role and the database, if they are missing"; return; fi
    role
}

role() {
    local psql=(runuser -u postgres -- psql -qtAX -v ON_ERROR_STOP=1) password
    password="$(password_of PLATFORM_DATABASE_URL)"
    if [ -z "$("${psql[@]}" -c "SELECT 1 FROM pg_roles WHERE rolname = 'qlib'")" ]; then
        "${psql[@]}" <<<"CREATE ROLE qlib LOGIN PASSWORD '$password'"
    fi
    if [ -z "$("${psql[@]}" -c "SELECT 1 FROM pg_database WHERE datname = 'qlib'")" ]; then
        "${psql[@]}" -c "CREATE DATABASE qlib OWNER qlib"
    fi
    # The environment file was lost, and was made anew with other secrets. Not always: the server may be a standby here.
    if ! "${psql[@]}" <<<"\\connect '$(setting PLATFORM_DATABASE_URL)'" 2>/dev/null; then
        echo "   the role gets the password of $ETC/environment"
        "${psql[@]}" <<<"ALTER ROLE qlib LOGIN PASSWORD '$password'"
    fi
}

redis() {
    step "Redis: append-only file, no eviction, one user that may ring"
    if [ -n "$DRY" ]; then echo "   would write /etc/redis/qlib-platform.{acl,conf} and include them"; return; fi
    local users=/etc/redis/qlib-platform.acl text
    # Users that somebody added, such as those of Sentinels, stay.
    text="$(sed "s/@REDIS_PASSWORD@/$(password_of PLATFORM_REDIS_URL)/" "$SOURCE/deploy/redis.acl"
        [ ! -e "$users" ] || grep -vE '^user (default|qlib) |^$' "$users" || true)"
    settle redis-server "$users" 0640 redis:redis <<<"$text"
    settle redis-server /etc/redis/qlib-platform.conf 0640 redis:redis < "$SOURCE/deploy/redis.conf"
    if ! grep -qx 'include /etc/redis/qlib-platform.conf' /etc/redis/redis.conf; then
        owe redis-server
        echo 'include /etc/redis/qlib-platform.conf' >> /etc/redis/redis.conf
    fi
    serve redis-server
}

tables() {
    step "Tables (changes that the running release can live with)"
    run qlib-manage migrate --noinput
}

units() {
    step "systemd units: ${WORKERS//,/ }${1:+ and the rest}"
    run cp -r "$SOURCE/deploy/systemd/." "$UNITS/"
    write "$UNITS/qlib-.service.d/release.conf" 0644 root:root <<<"$(printf '[Service]\nEnvironment=PLATFORM_RELEASE=%s' "$RELEASE")"
    systemd daemon-reload
}

# Made at the usual place only, and over nothing that somebody brought: a key that is lost cannot be had again.
certificate() {
    [ "$CERTIFICATE $KEY" = "$ETC/tls.crt $ETC/tls.key" ] || return 0
    if [ -e "$CERTIFICATE" ]; then
        # One that signs itself is ours. It is made anew for another name, with its key.
        [ "$(of_certificate -subject_hash)" = "$(of_certificate -issuer_hash)" ] || return 0
        if [ -e "$KEY" ] && [[ "$(of_certificate -checkhost "$HOST")" == *"does match"* ]]; then return; fi
    fi
    echo "   a certificate for $HOST that browsers warn of, until --certificate and --key name a real one"
    if [ ! -e "$KEY" ]; then
        run openssl genrsa -out "$KEY" 2048
        run chmod 0600 "$KEY"
    fi
    run openssl req -x509 -days 825 -subj "/CN=$HOST" -addext "subjectAltName=DNS:$HOST" -key "$KEY" -out "$CERTIFICATE"
}
of_certificate() { openssl x509 -noout -in "$CERTIFICATE" "$@"; }

# Before nginx sends anything there.
sockets() {
    step "Sockets of $WEBS web processes"
    local number units=()
    for number in $(seq "$WEBS"); do units+=("qlib-web@$number.socket"); done
    systemd enable --now "${units[@]}"
}

nginx_site() {
    step "nginx: TLS, limits, sockets and files for https://$HOST"
    certificate
    run usermod -a -G qlib www-data
    local webs; webs="$(for number in $(seq "$WEBS"); do printf '    server 127.0.0.1:800%s;\\n' "$number"; done)"
    sed -e "s#^ *server 127.0.0.1:8001;#${webs%\\n}#" -e "s#@HOST@#$HOST#g" -e "s#@CERTIFICATE@#$CERTIFICATE#" -e "s#@CERTIFICATE_KEY@#$KEY#" \
        -e "s#@STATE_DIR@#$STATE#" "$SOURCE/deploy/nginx.conf" |
        write /etc/nginx/sites-available/qlib-platform 0644 root:root
    run ln -sfn /etc/nginx/sites-available/qlib-platform /etc/nginx/sites-enabled/qlib-platform
    run nginx -t
    systemd reload-or-restart nginx
}

switch() {
    step "Switch to $1"
    local old; old="$(readlink "$OPT/current" 2>/dev/null || true)"
    if [ -n "$old" ] && [ "$old" != "$1" ]; then run ln -sfn "$old" "$OPT/previous"; fi
    run ln -sfn "$1" "$OPT/current.new"
    run mv -T "$OPT/current.new" "$OPT/current"
}

# Whatever runs, with the release that is current now. Web first, one after the other: it answers what it has
# begun, while its socket keeps new connections. A worker gives its task back, at no cost of an attempt.
restart() {
    local web
    for web in "$UNITS"/sockets.target.wants/qlib-web@*.socket; do
        web="${web##*/}"
        systemd try-restart "${web%.socket}.service"
    done
    systemd try-restart qlib-reconcile.service qlib-export.service
    systemd try-restart 'qlib-worker@*.service'
}

start() {
    step "Start, or restart with the new release"
    local name number workers=() webs=()
    for name in ${WORKERS//,/ }; do workers+=("qlib-worker@$name.service"); done
    for number in $(seq "$WEBS"); do webs+=("qlib-web@$number.service"); done
    systemd enable --now qlib-platform.target
    if [ "$1" = all ]; then
        systemd reenable qlib-maintain.timer qlib-backup.timer
        systemd start qlib-maintain.timer qlib-backup.timer
        systemd enable qlib-reconcile.service
    fi
    for name in "$UNITS"/*.target.wants/qlib-worker@*.service; do
        name="${name##*/}"
        [[ " ${workers[*]} qlib-worker@*.service " == *" $name "* ]] || systemd disable --now "$name"
    done
    for name in "$UNITS"/sockets.target.wants/qlib-web@[1-9].socket; do
        name="${name##*/}"
        [[ " ${webs[*]} qlib-web@[1-9].service " == *" ${name%.socket}.service "* ]] || systemd disable --now "$name"
    done
    restart
    [ "$1" != all ] || systemd start "${webs[@]}" qlib-reconcile.service
    # Anew: earlier releases had them wanted by another target, which did not start them again with the rest.
    # Not by reenable: it cannot do it for an instance of a template.
    systemd disable "${workers[@]}"
    systemd enable "${workers[@]}"
    systemd start "${workers[@]}"
}

# A release is over 1 GB; the one before stays for a rollback. Nothing runs from older ones now.
tidy() {
    step "Remove releases older than the one before"
    local one before
    before="$(readlink "$OPT/current" 2>/dev/null || true)"
    [ "$before" != "$NEW" ] || before="$(readlink "$OPT/previous" 2>/dev/null || true)"
    for one in "$OPT"/releases/*; do
        case "${one##*/}" in "$RELEASE" | "${before##*/}" | '*') ;; *) run rm -rf "$one" ;; esac
    done
}

# Asked again for a minute: workers tell of themselves some seconds after their start.
doctor() {
    step "The doctor"
    if [ -n "$DRY" ]; then run qlib-manage doctor; return; fi
    local told
    for _ in 1 2 3 4 5 6; do
        ! has_systemd || sleep 10
        if told="$(qlib-manage doctor 2>&1)"; then printf '%s\n' "$told"; return; fi
        has_systemd || break
    done
    printf '%s\n' "$told"
    printf '\nRelease %s is installed and does not work yet: the cures are above. Then: qlib-manage doctor\n' "$RELEASE" >&2
    exit 1
}

BASE_PACKAGES=(python3 python3-venv git openssl libgomp1)
case "$COMMAND" in
    all)
        check
        packages "${BASE_PACKAGES[@]}" postgresql redis-server nginx
        check_python
        user_and_folders; release; environment; choices; manage_command; database; redis
        # The new release's tables first: expand, then switch; what is to go, goes with the release after.
        step "Tables are made by release $RELEASE"
        [ -e "$OPT/current" ] || switch "$NEW"
        if [ -z "$DRY" ]; then (set -a; . "$ETC/environment"; cd "$NEW"; setpriv --reuid qlib --regid qlib --init-groups .venv/bin/python manage.py migrate --noinput); else tables; fi
        switch "$NEW"; units all; sockets; nginx_site; start all; tidy; doctor
        printf '\nReady: https://%s/  First account: qlib-manage createsuperuser\n' "$HOST"
        ;;
    worker)
        [ -n "$DRY" ] || [ -e "$ETC/environment" ] || { echo "Copy $ETC/environment from the first machine (0600), with the addresses of its PostgreSQL and Redis." >&2; exit 1; }
        check
        packages "${BASE_PACKAGES[@]}"
        check_python
        user_and_folders; release; choices; manage_command; switch "$NEW"; units; start worker; tidy; doctor
        ;;
    rollback)
        [ -n "$DRY" ] || [ -e "$OPT/previous" ] || { echo "There is no release before this one." >&2; exit 1; }
        step "Back to the release before; tables stay, as they fit both"
        old="$(readlink "$OPT/previous" 2>/dev/null || echo "$OPT/previous")"
        RELEASE="$(basename "$old")"
        switch "$old"
        SOURCE="$old"; units all; restart
        ;;
    uninstall)
        step "Stop and remove programs and units"
        # The sockets first, or a request would start the web again. Done again, it finds nothing to stop.
        systemd stop 'qlib-web@*.socket' 'qlib-*.timer' 'qlib-*.service' qlib-platform.target qlib.slice || true
        run rm -rf "$OPT" /usr/local/sbin/qlib-manage "$UNITS"/qlib-* "$UNITS/qlib.slice" \
            "$UNITS"/*.wants/qlib-* /etc/nginx/sites-enabled/qlib-platform /etc/nginx/sites-available/qlib-platform
        systemd daemon-reload
        [ ! -d /etc/nginx ] || systemd try-reload-or-restart nginx
        if [ -z "$PURGE" ]; then
            echo "   data stay: $STATE, $BACKUPS, $ETC, the database qlib; --purge removes them"
        else
            step "Remove data, settings, database and user"
            if [ -d /etc/postgresql ] || [ -n "$DRY" ]; then
                # Whoever is connected still, such as a worker of another machine, is thrown out.
                run runuser -u postgres -- dropdb --force --if-exists qlib
                run runuser -u postgres -- dropuser --if-exists qlib
                run rm -f /etc/postgresql/*/main/conf.d/qlib-platform.conf
                systemd try-restart postgresql
            fi
            if [ -e /etc/redis/qlib-platform.conf ] || [ -n "$DRY" ]; then
                run rm -f /etc/redis/qlib-platform.conf /etc/redis/qlib-platform.acl
                # Redis itself may have written the second, where Sentinels lead it.
                run sed -i -E '\#^(include|aclfile) "?/etc/redis/qlib-platform\.(conf|acl)"?$#d' /etc/redis/redis.conf
                systemd try-restart redis-server
            fi
            run rm -rf "$STATE" "$BACKUPS" "$ETC"
            # Else the group stays: nginx is a member of it.
            if id -nG www-data 2>/dev/null | grep -qw qlib; then run gpasswd -d www-data qlib; fi
            run userdel qlib || true
        fi
        ;;
    *) usage; [ -z "$COMMAND" ] && exit 0; exit 2 ;;
esac
