#!/bin/sh
# What the program promises, checked in the `test` stage.
set -eu

check() {
    if [ "$2" != "$3" ]; then
        echo "$1: expected [$2], got [$3]" >&2
        exit 1
    fi
}

check "words are counted without case" "      3 a
      2 b" "$(echo 'b A a. B,a' | ./wordfreq)"
check "only as many as asked" "      2 x" "$(echo 'x y x' | ./wordfreq -n 1)"
check "no words, no lines" "" "$(./wordfreq </dev/null)"
if ./wordfreq --nonsense 2>/dev/null; then
    echo "an unknown option is refused" >&2
    exit 1
fi
echo "all passed"
