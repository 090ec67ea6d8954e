"""The command line: `centermask`. A file per command; each parses, calls the library and prints."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from centermask_keras import __version__
from centermask_keras.cli.benchmark import benchmark_command
from centermask_keras.cli.client import client_command
from centermask_keras.cli.config import config_command
from centermask_keras.cli.data_ceiling import data_ceiling_command
from centermask_keras.cli.data_check import data_check_command
from centermask_keras.cli.data_convert import data_convert_command
from centermask_keras.cli.data_make_shapes import data_make_shapes_command
from centermask_keras.cli.data_shard import data_shard_command
from centermask_keras.cli.data_split import data_split_command
from centermask_keras.cli.demo import demo_command
from centermask_keras.cli.evaluate import evaluate_command
from centermask_keras.cli.export import export_command
from centermask_keras.cli.import_weights import import_command
from centermask_keras.cli.predict import predict_command
from centermask_keras.cli.train import train_command
from centermask_keras.errors import CenterMaskError, InterruptedTraining, one_line

INTERRUPTED = 130
TERMINATED = 143  # 128 + SIGTERM, as a shell has it for a program that the signal ended

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: convert, check, split, ceiling, shard, make-shapes.")
app.add_typer(data_app, name="data")
for name, command in {
    "predict": predict_command,
    "client": client_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "export": export_command,
    "benchmark": benchmark_command,
    "import": import_command,
    "config": config_command,
    "demo": demo_command,
}.items():
    app.command(name)(command)
for name, command in {
    "convert": data_convert_command,
    "check": data_check_command,
    "split": data_split_command,
    "ceiling": data_ceiling_command,
    "shard": data_shard_command,
    "make-shapes": data_make_shapes_command,
}.items():
    data_app.command(name)(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; errors that the user can act on are printed without a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what a terminal cannot show
    try:
        app(args=arguments, prog_name="centermask")
    except InterruptedTraining as stop:
        print(stop, file=sys.stderr)
        sys.exit(TERMINATED)
    except CenterMaskError as error:
        lines = (one_line(line) for line in _explain(error).split("\n"))
        print("error: " + "\n".join(lines), file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        text = f"{error.filename or 'file'}: expected to read or write it, received: {error.strerror or error}"
        print(f"error: {one_line(text)}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED and arguments[:1] == ["train"]:  # what the library makes of Ctrl-C
            print("interrupted; the same command continues the training", file=sys.stderr)
        raise


def _explain(error: CenterMaskError) -> str:
    """Return the message of an error; where files of another tool were given, what they are and what converts them."""
    from centermask_keras.convert.formats import explain_source

    return explain_source(error) or str(error)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"centermask-keras {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Single-shot instance segmentation (CenterMask, CVPR 2020)."""
