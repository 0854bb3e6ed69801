#!/bin/sh
# A compiler launcher: runs the compiler that it is given, and keeps what ptxas says of the kernels (-Xptxas=-v) in
# OBJECT.ptxas. The rest of what the compiler says (warnings, wgmma that was serialised) goes to stderr too.
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
case $object in
  *.o) ;;
  *) exec "$@" ;;
esac
said=$object.ptxas.new
"$@" 2>"$said"
status=$?
grep -vE '^ptxas info +: (Compiling entry function|Function properties|Used |Compile time|[0-9]+ bytes gmem)|^ +[0-9]+ bytes stack frame' \
  "$said" >&2
if [ "$status" -eq 0 ]; then mv "$said" "$object.ptxas"; else rm -f "$said"; fi
exit "$status"
