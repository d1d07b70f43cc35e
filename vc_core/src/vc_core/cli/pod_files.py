"""``virtc pod inspect`` and ``virtc pod schema``: pods as files."""

from __future__ import annotations

import click

import vc_core
from vc_core.cli import identifiers, options, output


@click.command(cls=output.Command)
@identifiers.pod
@click.option("--format", "form", type=click.Choice(("yaml", "json", "toml")), help="[default: yaml]")
@options.json_option
def inspect(pod_id: str, form: str | None, as_json: bool) -> None:
    """Print a pod's configuration as a file, from which 'virtc pod create --file' makes the same pod.

    Example: virtc pod inspect POD >pod.yaml
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} are two formats; choose one")
    config = vc_core.inspect_pod(pod_id)
    output.echo(vc_core.dump_pod_config(config, format="json" if as_json else form or "yaml"), nl=False)


@click.command(cls=output.Command)
def schema() -> None:
    """Print the JSON Schema of pod files, for editors and other tools.

    Example: virtc pod schema >pod.schema.json
    """
    import json

    from vc_core.podfile.schema import pod_schema

    output.echo(json.dumps(pod_schema(), indent=2))
