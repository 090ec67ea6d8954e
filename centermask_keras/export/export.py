"""Export a model in several formats and prove each file in its own runtime."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from centermask_keras.data.files.images import read_image
from centermask_keras.data.files.shards import ImageFile, path_of
from centermask_keras.errors import CenterMaskError
from centermask_keras.export.formats import THREADS, check_name, import_exporter
from centermask_keras.export.parity import compare, find_rows, finds_objects
from centermask_keras.export.record import RECORD, Exported, write_record
from centermask_keras.export.saved_model import VERSION
from centermask_keras.inference.load import RUN_FILES, load
from centermask_keras.inference.runtimes.description import Description
from centermask_keras.inference_config import to_inference_config
from centermask_keras.outputs import refuse_overwriting

CALIBRATION_IMAGES = 48
CHECKED_IMAGES = 16


def export_run(
    run: Path,
    folder: Path,
    formats: Iterable[str],
    images: Sequence[ImageFile],
    *,
    overrides: Sequence[str] = (),
    progress: Callable[[Exported], None] = lambda exported: None,
) -> list[Exported]:
    """Export a run folder or a shipped model, float32 whatever it was trained in.

    Args:
        run: the folder.
        folder: where the files go; its name is theirs.
        formats: keys of `FORMATS`.
        images: real images, to calibrate int8 and to prove the files with.
        overrides: changes to the configuration; `eval.resize=letterbox` fixes the size of the input to `data.input_hw`.
        progress: told about each file once it is proven.

    Raises:
        CenterMaskError: before anything is written, a package that a format needs is not installed, the name of the
            folder is none to serve a SavedModel by, or an output would replace an input; after everything
            is, a file is out of tolerance.
    """
    exporters = {name: import_exporter(name) for name in formats}
    folder = folder.resolve()  # `.` has a name as well
    if "saved_model" in exporters:
        check_name(folder)
        if folder.exists() and folder.samefile(run):
            raise CenterMaskError(
                f"{folder}: expected another folder than that of the run, as whoever loads the run would get the "
                "SavedModel in its place. Pass --to another folder"
            )
    refuse_overwriting(_output_places(folder), [*(run / name for name in RUN_FILES), *map(path_of, images)])
    predictor = load(run, [*overrides, "model.dtype_policy=float32"])
    description = Description(to_inference_config(predictor.config), predictor.categories)
    canvases = [predictor.prepare(read_image(path))[0] for path in spread(images, CALIBRATION_IMAGES)]
    checked = spread(canvases, CHECKED_IMAGES)
    reference = find_rows(predictor, checked)
    knows_images, has_rows = finds_objects(reference), any(len(rows["scores"]) for rows in reference)
    folder.mkdir(parents=True, exist_ok=True)
    done: list[Exported] = []
    for name, exporter in exporters.items():
        for precision, path in exporter(predictor.detector, description, folder, canvases).items():
            # Of a model that finds nothing, lower precisions choose other rows: there is nothing to compare.
            measured = knows_images or (has_rows and precision == "fp32")
            parity = compare(reference, load(path, threads=THREADS), checked) if measured else None
            done.append(Exported(name, precision, path, parity))
            progress(done[-1])
    write_record(folder, run, description, done)
    faults = [f"{exported.path}: {fault}" for exported in done for fault in exported.faults]
    if faults:
        raise CenterMaskError("\n".join(faults))
    return done


def _output_places(folder: Path) -> list[Path]:
    """List what an export may replace: files, and the folder of the SavedModel with all that is in it."""
    name = glob.escape(folder.name)
    return [folder / RECORD, folder / VERSION, *folder.glob(f"{name}.onnx"), *folder.glob(f"{name}_*.tflite")]


def spread(items: Sequence, count: int) -> list:
    """Choose up to `count` items at even distances."""
    chosen = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[index] for index in chosen]
