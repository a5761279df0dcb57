"""The checks of `nf-core pipelines lint` that make sense here, without a network; tools/lint-nfcore runs it.

The command itself clones nf-core/modules first, so the class behind it is called.
"""

import logging
import sys

from nf_core.pipelines.lint import PipelineLint

CHECKS = (
    "base_config", "files_exist", "local_component_structure", "merge_markers",
    "modules_structure", "nextflow_config", "nf_test_content", "nfcore_yml", "pipeline_if_empty_null",
    "pipeline_name_conventions", "pipeline_todos", "plugin_includes", "readme", "schema_description", "schema_lint",
    "schema_params", "system_exit", "template_strings",
)  # fmt: skip


def main() -> None:
    logging.getLogger("nf_core").setLevel(logging.WARNING)
    lint = PipelineLint(".", key=list(sys.argv[1:] or CHECKS))
    lint._load()
    lint._lint_pipeline()
    for name, message in lint.failed:
        print(f"[lint] nf-core {name}: {message}")
    for name, message in lint.warned:
        print(f"[warn] nf-core {name}: {message}")
    print(f"[lint] nf-core: {len(lint.passed)} passed, {len(lint.warned)} warnings, {len(lint.failed)} failed")
    sys.exit(bool(lint.failed))


if __name__ == "__main__":
    main()
