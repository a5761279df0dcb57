"""The methods as text for a paper, and all parameters."""

from spikgpt.report.content import Group, Section, text
from spikgpt.report.inputs import Inputs
from spikgpt.report.methods import methods_html
from spikgpt.report.plots import TableColumn, markup, table

GROUP = Group("spikgpt_record", "Methods and parameters", "The methods as text for a paper, and all parameters.")


def methods_text(inputs: Inputs) -> Section:
    return markup(
        "spikgpt_methods",
        "Methods",
        "Text for a paper's methods section, filled in from this run, with the works to cite.",
        methods_html(inputs),
    )


def parameters_table(inputs: Inputs) -> Section:
    rows = {
        text(name): {"value": text("not given" if value is None else value)}
        for name, value in sorted(inputs.run["parameters"].items())
    }
    return table(
        "spikgpt_parameters",
        "Parameters",
        "All parameters that bear on the results, defaults included; the same values and input give the same labels.",
        rows,
        {"value": TableColumn("Value", "Value of the parameter")},
        first="Parameter",
        decimals=3,
    )
