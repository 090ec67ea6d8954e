"""`centermask client`."""

from __future__ import annotations

from typing import Annotated

import typer

from centermask_keras.cli.options import Ids, Inputs, Out, Score
from centermask_keras.cli.predict import open_inputs, predict_and_print
from centermask_keras.inference_config import SCORE_THRESHOLD


def client_command(
    inputs: Inputs,
    url: Annotated[str, typer.Option(help="http://HOST:8501/v1/models/NAME or grpc://HOST:8500/NAME.")],
    out: Out,
    score: Score = SCORE_THRESHOLD,
    annotations: Ids = None,
    batch_size: Annotated[int, typer.Option(help="Images in one request.", min=1)] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.001)] = 60.0,
) -> None:
    """Find objects in images through a model server; writes what `predict` writes."""
    paths, ids = open_inputs(inputs, out, annotations)
    from centermask_keras.extra.serving.client import ServedPredictor, connect

    predict_and_print(ServedPredictor(connect(url, deadline=deadline), batch_size=batch_size), paths, out, score, ids)
