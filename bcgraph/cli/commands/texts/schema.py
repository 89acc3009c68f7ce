"""`bcgraph schema`: the JSON schema of a specification, for editors and other tools."""

from __future__ import annotations

from bcgraph.cli.output import emit_json


def schema_command() -> None:
    """Print the JSON schema."""
    from bcgraph.schema import NetworkSpec

    emit_json(NetworkSpec.model_json_schema(mode="serialization"))
