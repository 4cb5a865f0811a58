#!/bin/sh
# Makes a page of a text: the first line is its heading, an empty line ends a paragraph.
set -eu
echo '<!doctype html>'
echo '<title>@TITLE@</title>'
sed -e 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g' \
    -e '1s|.*|<h1>&</h1>|' \
    -e '2,$s|^\([^ ].*\)$|<p>\1</p>|' "$1"
