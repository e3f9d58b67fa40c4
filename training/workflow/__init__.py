"""A Qlib workflow, understood before it runs: read, checked, and made canonical.

    document = parse(body, content_type="application/yaml")
    workflow = check(document, market=facts_of, defaults=Defaults(threads=2))

`document` reads within limits, `shape` knows the form, `sense` the meaning, `canonical` makes
explicit what was left to defaults. Neither Django nor Qlib is imported here.
"""

from training.workflow.check import Examined, check, examine
from training.workflow.document import Document, from_data, parse
from training.workflow.estimate import Estimate, Run, effort, estimate
from training.workflow.facts import Defaults, MarketFacts, Workflow
from training.workflow.findings import Findings
from training.workflow.yaml12 import is_text

__all__ = [
    "Defaults",
    "Document",
    "Estimate",
    "Examined",
    "Findings",
    "MarketFacts",
    "Run",
    "Workflow",
    "check",
    "effort",
    "estimate",
    "examine",
    "from_data",
    "is_text",
    "parse",
]
