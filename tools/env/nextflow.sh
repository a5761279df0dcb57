#!/usr/bin/env bash
# Nextflow from the jars beside this environment (tools/setup puts them there).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
options=()
for package in java.lang java.io java.nio java.net java.util java.util.regex java.util.concurrent.locks \
    java.util.concurrent.atomic sun.nio.ch sun.nio.fs sun.net.www.protocol.http sun.net.www.protocol.https \
    sun.net.www.protocol.ftp sun.net.www.protocol.file java.nio.file.spi jdk.internal.misc jdk.internal.vm; do
    options+=(--add-opens "java.base/$package=ALL-UNNAMED")
done
export NXF_OFFLINE=${NXF_OFFLINE:-true}
# Text is UTF-8, as Nextflow's own launcher has it. File names, Java reads in the locale's charset, and by no option
# in another: a plain login without a locale, or cron, would find no file with an umlaut in its name.
[ "$(locale charmap 2>/dev/null)" = UTF-8 ] || export LC_ALL=C.UTF-8
# As Nextflow's own launcher has it: a run is mostly start-up, where the second compiler costs more than it saves.
options+=(-XX:TieredStopAtLevel=1)
# NXF_OPTS holds several options in one string, as Nextflow's own launcher reads it
# shellcheck disable=SC2086
exec "${JAVA_CMD:-java}" "${options[@]}" -Dfile.encoding=UTF-8 ${NXF_OPTS:-} -cp "$here/nextflow/*" nextflow.cli.Launcher "$@"
