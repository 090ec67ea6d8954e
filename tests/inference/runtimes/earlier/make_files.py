"""Make the files of this folder with the code of commit 7efeff8: a tiny model, its exports, and what each one finds.

    cd CHECKOUT_OF_7efeff8 && PYTHONPATH=$PWD python .../tests/runtimes/earlier/make_files.py

Every kernel has three values, so that the archive stays small: the smallest network has 950,000 weights.
"""

import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path.cwd() / "tests" / "export"))
import conftest as export_case

import centermask_keras as cm
from centermask_keras.config import load_config
from centermask_keras.data.files.images import read_image
from centermask_keras.demo.shapes import make_shapes
from centermask_keras.inference.load import build

HERE = Path(__file__).parent
OVERRIDES = (
    *("model.num_classes=3", "model.head_channels=16", "model.shape_size=8", "model.mask_size_train=16"),
    *("model.mask_size_infer=16", "model.max_detections=10", "model.dtype_policy=float32"),
    *("data.input_hw=[64, 64]", "eval.batch_size=1", "train.seed=3"),  # of eight seeds the one that finds most
)
CATEGORIES = [{"id": 2, "name": "circle"}, {"id": 3, "name": "square"}, {"id": 7, "name": "star"}]
FILES = {"keras": "run", "saved_model": "tiny/1", "tflite": "tiny/tiny_fp32.tflite", "onnx": "tiny/tiny.onnx"}


def make_run(folder: Path, image: Path) -> None:
    """Write a run folder with random weights that find objects in the image."""
    config = load_config(Path("configs") / "demo.json", OVERRIDES)
    predictor = build(config)
    detector = predictor.detector
    for weight in detector.trainable_weights:
        if len(weight.shape) == 4:
            values, deviation = weight.numpy(), float(np.std(weight))
            weight.assign(1.22 * deviation * np.sign(values) * (np.abs(values) > 0.43 * deviation))
    canvases = predictor.prepare(read_image(image))[0][None]
    detector.point_heads.get_layer("size").project.bias.assign([6.0, 5.0])
    for layer, key, highest in (("heatmap_2", "heatmap_logits", -0.9), ("saliency_2", "saliency_logits", 0.0)):
        export_case.spread_logits(detector, detector.network.get_layer(layer), key, canvases, highest=highest)
    values = json.loads(config.to_json())
    values["eval"]["mask_threshold"] = export_case.find_low_threshold(predictor, canvases)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    (folder / "run.json").write_text(json.dumps({"categories": CATEGORIES}, indent=2) + "\n")
    detector.save_weights(folder / "model.weights.h5")


def main() -> None:
    """Make a picture and a model, export the model, and write what each file finds in the picture."""
    image = HERE / "image.png"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_shapes(folder / "shapes", train=1, val=1, hw=(80, 112), seed=4)
        shutil.copyfile(folder / "shapes" / "val" / "000001.png", image)
        make_run(folder / "run", image)
        export_case.export_all(folder / "run", folder / "tiny", {"image": image}, export_case.RANDOM)
        found = {runtime: cm.load(folder / file).predict(image)[0].to_coco(1) for runtime, file in FILES.items()}
        (HERE / "detections.json").write_text(json.dumps(found, indent=1) + "\n")
        with tarfile.open(HERE / "files.tar.xz", "w:xz") as archive:
            for file in FILES.values():
                archive.add(folder / file, file)


if __name__ == "__main__":
    main()
