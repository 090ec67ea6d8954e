"""`centermask data convert`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from centermask_keras.cli.options import JsonOption
from centermask_keras.cli.output import progress_bar, write_json

if TYPE_CHECKING:
    from centermask_keras.convert.convert import Converted


def data_convert_command(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Files or folders of any tool.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images; else hard links where possible.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="One file, whatever parts the sources have.")] = False,
    classes: Annotated[str | None, typer.Option(help="a,b=a: these classes alone, b as a.")] = None,
    json_: JsonOption = None,
) -> None:
    """Write COCO json from COCO variants, YOLO, labelme, VIA, CVAT, Label Studio, VOC, or masks as PNG."""
    from centermask_keras.convert.convert import convert, parse_classes

    chosen = None if classes is None else parse_classes(classes)
    with progress_bar("convert") as advance:
        result = convert(sources, out, copy=copy, merge=merge, classes=chosen, progress=advance)
    print("\n".join(_lines(result)))
    write_json(json_, {**asdict(result), "out": str(result.out)})


def _lines(result: Converted) -> list[str]:
    lines = list(result.notes)
    for source, lost in result.lost.items():
        if lost:
            lines.append(f"not kept of {source}: {', '.join(f'{count:,} {what}' for what, count in lost.items())}")
    if result.crowds:
        lines.append(
            f"crowd regions (iscrowd 1): {result.crowds:,}. Some tools mark every mask so: data.crowd=train makes them "
            "ordinary objects"
        )
    lines.append("classes: " + ", ".join(f"{name} {count:,}" for name, count in result.classes.items()))
    if result.left_out:
        lines.append(f"classes left out, without objects or not chosen: {', '.join(result.left_out)}")
    if result.partial:
        lines.append("partial labels: of a class that a source does not have nothing is known in its images")
    total = sum(images for images, _ in result.files.values())
    lines.append(f"images: {result.out / 'images'}   hard links: {result.linked:,}, copies: {total - result.linked:,}")
    lines += [
        f"annotations: {result.out / name}   {images:,} images, {objects:,} objects"
        for name, (images, objects) in result.files.items()
    ]
    return lines
