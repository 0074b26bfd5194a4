#!/bin/sh
# What the image runs: a command as it is given, and Beam's boot program where a runner gives nothing but options (--id=1, --worker_pool).
case "${1-}" in
-*) exec /opt/apache/beam/boot "$@" ;;
*) exec "$@" ;;
esac
