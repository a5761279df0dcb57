#!/usr/bin/env bash
# Nextflow from the jars beside this environment (tools/setup puts them there).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
opens=()
for package in java.lang java.io java.nio java.net java.util java.util.regex java.util.concurrent.locks \
    java.util.concurrent.atomic sun.nio.ch sun.nio.fs sun.net.www.protocol.http sun.net.www.protocol.https \
    sun.net.www.protocol.ftp sun.net.www.protocol.file java.nio.file.spi jdk.internal.misc jdk.internal.vm; do
    opens+=(--add-opens "java.base/$package=ALL-UNNAMED")
done
export NXF_OFFLINE=${NXF_OFFLINE:-true}
# NXF_OPTS holds several options in one string, as Nextflow's own launcher reads it
# shellcheck disable=SC2086
exec "${JAVA_CMD:-java}" "${opens[@]}" ${NXF_OPTS:-} -cp "$here/nextflow/*" nextflow.cli.Launcher "$@"
