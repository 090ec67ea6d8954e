"""The command line: `centermask`. Parse, load the configuration, call the library, print."""

from __future__ import annotations

import io
import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from centermask_keras.cli.data import data_app
from centermask_keras.cli.predict import client_command, predict_command
from centermask_keras.cli.shared import (
    ConfigOption,
    JsonOption,
    Overrides,
    console,
    find_images,
    load_dataset,
    progress_bar,
    start_backend,
    write_json,
)
from centermask_keras.config import Config, load_config
from centermask_keras.errors import CenterMaskError, InterruptedTraining
from centermask_keras.evaluation.coco import Backend
from centermask_keras.evaluation.records import IouType
from centermask_keras.export.formats import THREADS, TITLES

if TYPE_CHECKING:
    from centermask_keras.data.shards import ImageFile
    from centermask_keras.objects import Category
    from centermask_keras.predictor import Predictor

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(data_app, name="data")
app.command("predict")(predict_command)
app.command("client")(client_command)
INTERRUPTED = 130
TERMINATED = 143  # 128 + SIGTERM, as a shell has it for a program that the signal ended
CheckpointKind = Literal["centernet-dla34", "centernet-hourglass", "dla34-imagenet", "torchvision-resnet"]


Format = StrEnum("Format", {name: name for name in (*TITLES, "all")})


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
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        place = error.filename or "file"
        print(f"error: {place}: expected to read or write it, received: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED and arguments[:1] == ["train"]:  # what the library makes of Ctrl-C
            print("interrupted; the same command continues the training", file=sys.stderr)
        raise


@app.command("train")
def train_command(
    config: ConfigOption,
    run: Annotated[Path | None, typer.Option(help="Run folder; default runs/<configuration>.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with a *.weights.h5 file, or with the best weights of a run folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that holds a run.")] = False,
    processes: Annotated[
        int, typer.Option(min=0, help="Processes that make the batches, for hosts with many cores; 0: threads do.")
    ] = 0,
    set_: Overrides = [],  # noqa: B006 - the form that typer reads
    json_: JsonOption = None,
) -> None:
    """Train a model, or continue an interrupted run."""
    from centermask_keras.training.train import train

    result = train(
        load_config(config, set_),
        name=str(config),
        run_dir=run or _default_run(config),
        weights=weights,
        overwrite=overwrite,
        processes=processes,
        console=console,
    )
    console.print(
        f"best mask AP {result.best_mask_ap:.3f} (epoch {result.best_epoch})   {result.run_dir}",
        highlight=False,
        soft_wrap=True,
    )
    write_json(json_, {"mask_ap": result.best_mask_ap, "epoch": result.best_epoch, "seconds": result.seconds})


@app.command("evaluate")
def evaluate_command(
    run: Annotated[Path | None, typer.Option("--run", "--model", help="Run folder or shipped model.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Configuration of --weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A *.weights.h5 file.")] = None,
    results: Annotated[Path | None, typer.Option(help="COCO results to score instead of a model.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Annotations; default: validation set of the run.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their images.")] = None,
    iou_type: Annotated[
        IouType, typer.Option("--iou-type", help="What --results are scored by; a model is scored by all.")
    ] = "segm",
    backend: Annotated[Backend, typer.Option(help="The scorer; both give the same figures.")] = "faster",
    from_coco: Annotated[
        bool, typer.Option("--from-coco", help="Score COCO's 80 categories on an LVIS file (the paper's Table 4).")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; default RUN/eval.")] = None,
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Score a model (masks, boxes, boundaries), or a file of results, by the measure of COCO or LVIS."""
    if results is not None:
        _score_results(results, annotations, iou_type, backend, from_coco, out, json_)
        return
    start_backend()
    from centermask_keras.evaluation.coco import write_results
    from centermask_keras.evaluation.lvis import LVIS_DETECTIONS, coco_categories
    from centermask_keras.evaluation.predict import categories_of, evaluate_model
    from centermask_keras.evaluation.report import figure_table, write_report
    from centermask_keras.inference import check_run_folder
    from centermask_keras.objects import Category

    if (run is None) == (config is None and weights is None) or (config is None) != (weights is None):
        raise CenterMaskError("expected --run DIR, or --config FILE with --weights FILE, or --results FILE")
    if run is not None:
        check_run_folder(run)
    source = config or run / "config.json"
    loaded = load_config(source, set_)
    dataset = load_dataset(loaded, str(source), annotations, images, other_classes=from_coco)
    categories = [Category(*row) for row in coco_categories().items()] if from_coco else categories_of(dataset)
    predictor = _load_predictor(run, loaded, weights, set_, categories)
    out = out or (run or weights.parent) / "eval"
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar("evaluate") as advance:
        evaluation = evaluate_model(
            predictor,
            dataset,
            iou_types=("segm", "bbox", "boundary"),
            backend=backend,
            from_coco=from_coco,
            progress=advance,
        )
    write_results(out / "detections.json", evaluation.results)
    if dataset.has_annotations:
        write_report(out, evaluation.figures, evaluation.per_class)
        print(figure_table(evaluation.figures))
    else:
        print(f"{dataset.path} has no annotations: nothing to score. {out / 'detections.json'} is the submission")
    if dataset.known_classes is not None and loaded.model.max_detections < LVIS_DETECTIONS:
        print(f"LVIS counts {LVIS_DETECTIONS} detections per image: --set model.max_detections={LVIS_DETECTIONS}")
    for path in evaluation.unreadable:
        print(f"skipped, not readable: {path}")
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in evaluation.seconds.items() if name != "total")
    print(f"{len(dataset):,} images in {evaluation.seconds['total']:.0f} s ({spent})   {out}")
    write_json(json_, {**evaluation.figures, "seconds": evaluation.seconds, "images": len(dataset)})


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Option("--run", "--model", help="Run folder or shipped model.")],
    to: Annotated[Path, typer.Option(help="Folder for the files, which take its name.")],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.all,
    images: Annotated[Path | None, typer.Option(help="Real images to calibrate and to check with.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Write a model as SavedModel, TFLite or ONNX and prove each file against Keras."""
    from centermask_keras.inference import check_run_folder

    check_run_folder(run)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(THREADS))  # read as TensorFlow starts
    start_backend()
    from centermask_keras.export.export import export_run, spread
    from centermask_keras.export.record import table_header, table_row
    from centermask_keras.export.saved_model import VERSION
    from centermask_keras.serving.kit import WARM_UP_IMAGES, write_kit

    loaded = load_config(run / "config.json", set_)
    paths = _own_images(run, loaded) if images is None else find_images([str(images)])
    formats = list(TITLES) if format_ is Format.all else [format_.value]
    print(table_header())
    export_run(run, to, formats, paths, overrides=set_, progress=lambda row: print(table_row(row), flush=True))
    if "saved_model" in formats:
        kit = write_kit(to, to / VERSION, spread(paths, WARM_UP_IMAGES))
        print(f"for TensorFlow Serving   {', '.join(str(path) for path in kit)}")
    print(f"all within tolerance   {to / 'export.json'}")


@app.command("benchmark")
def benchmark_command(
    run: Annotated[Path | None, typer.Option("--run", "--model", help="Run folder or shipped model.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A configuration, with random weights.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images; default: those of its validation set.")] = None,
    batch_size: Annotated[int, typer.Option(help="The larger of the two batches; the other one is 1.", min=1)] = 8,
    repeats: Annotated[int, typer.Option(help="Timings of each stage; the median counts.", min=1)] = 7,
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Time the stages of prediction: read, network, decode, masks, paste; in float32 and bfloat16."""
    if (run is None) == (config is None):
        raise CenterMaskError("expected either --run DIR or --config FILE")
    start_backend()
    from centermask_keras.evaluation.benchmark import benchmark_inference, describe_device, stage_table
    from centermask_keras.inference import build, check_run_folder, load

    if run is not None:
        check_run_folder(run)
    source = config or run / "config.json"
    paths = find_images([str(images)]) if images else _own_images(source.parent, load_config(source, set_))
    device = describe_device()
    print("   ".join(f"{name} {value}" for name, value in device.items()))
    rows: dict[str, dict[str, float]] = {}
    for policy in ("float32", "mixed_bfloat16"):
        overrides = [*set_, f"model.dtype_policy={policy}"]
        predictor = load(run, overrides) if run is not None else build(load_config(config, overrides))
        for count in sorted({1, batch_size}):
            title = f"{policy.removeprefix('mixed_')} batch {count}"
            rows[title] = benchmark_inference(predictor, paths, batch_size=count, repeats=repeats)
    height, width = predictor.config.data.input_hw
    print(f"input {height} x {width}, {predictor.config.model.max_detections} detections per image, all of them pasted")
    print(stage_table(rows))
    write_json(json_, {**device, "milliseconds_per_image": rows})


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A PyTorch checkpoint (*.pth).")],
    kind: Annotated[CheckpointKind, typer.Option("--from", help="What the checkpoint is of.")],
    config: ConfigOption,
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Make a run folder of published PyTorch weights; names every tensor. Needs PyTorch (pip install torch)."""
    loaded = load_config(config, set_)
    start_backend()
    from centermask_keras.importers.run import format_report, import_weights

    report = import_weights(file, kind=kind, config=loaded, name=str(config), run_dir=run)
    print(f"{format_report(report)}   {run}")


@app.command("config")
def config_command(
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of configurations.")] = False,
    show: Annotated[Path | None, typer.Option(help="Check a configuration and print it.")] = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Print the schema of configurations, or a checked configuration."""
    if schema == (show is not None):
        raise CenterMaskError("expected either --schema or --show FILE")
    print(json.dumps(Config.model_json_schema(), indent=2) if schema else load_config(show, set_).to_json(), end="")
    if schema:
        print()


@app.command("demo")
def demo_command(
    run: Annotated[Path, typer.Option(help="Run folder; an earlier demo in it is replaced.")] = Path("runs/demo"),
    set_: Overrides = [],  # noqa: B006
    json_: JsonOption = None,
) -> None:
    """Generate shapes, train a small model, evaluate it and draw what it finds."""
    start_backend()
    from centermask_keras.demo import run_demo

    write_json(json_, run_demo(run_dir=run, overrides=tuple(set_), console=console))


def _own_images(run: Path, config: Config) -> list[ImageFile]:
    """Find the images that a model comes with: those of its validation set, or its samples."""
    annotations, folder = Path(config.data.val.annotations), Path(config.data.val.images)
    if annotations.is_file() and folder.is_dir():
        from centermask_keras.data.annotations import read_annotations

        found, _ = read_annotations(annotations, folder, crowd=config.data.crowd, require_annotations=False)
        return [found.image_file(index) for index in range(len(found))]
    if (run / "samples").is_dir():
        return find_images([str(run / "samples")])
    raise CenterMaskError(f"{folder}: expected the images of the validation set, received none. Pass --images DIR")


def _default_run(config: Path) -> Path:
    return Path("runs") / config.stem


def _load_predictor(
    run: Path | None, config: Config, weights: Path | None, overrides: list[str], categories: list[Category]
) -> Predictor:
    """Load the model of `--run`, or build that of `--config` with `--weights` for some categories."""
    from centermask_keras.inference import build, load, load_weights

    if run is not None:
        return load(run, overrides)
    predictor = build(config, categories)
    load_weights(predictor.detector, weights)
    return predictor


def _score_results(
    results: Path,
    annotations: Path | None,
    iou_type: IouType,
    backend: Backend,
    from_coco: bool,
    out: Path | None,
    json_: Path | None,
) -> None:
    """Score a file of results; with `--out` the report is written as well."""
    if annotations is None:
        raise CenterMaskError("--results: expected --annotations FILE as well")
    from centermask_keras.evaluation.coco import evaluate_coco, evaluate_coco_on_lvis
    from centermask_keras.evaluation.report import figure_table, write_report

    evaluate = evaluate_coco_on_lvis if from_coco else evaluate_coco
    figures = evaluate(annotations, results, iou_type=iou_type, backend=backend)
    per_class = figures.pop("per_class")
    print(figure_table(figures))
    if out is not None:
        write_report(out, figures, per_class)
    write_json(json_, figures)
