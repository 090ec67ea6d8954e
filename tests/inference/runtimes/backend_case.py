"""Run a model on images with the backend of `KERAS_BACKEND`.

`python backend_case.py FOLDER OUT.npz WEIGHTS.h5 IMAGE...`

Loads the run folder, writes its weights again (as this backend writes them) and what it detects in the images.
"""

import sys

import numpy as np

if __name__ == "__main__":
    folder, out, weights, *images = sys.argv[1:]
    from centermask_keras.data.files.images import read_image
    from centermask_keras.data.samples.preprocess import preprocess_image
    from centermask_keras.data.samples.transform import make_eval_transform
    from centermask_keras.inference.load import load

    overrides = ['model.dtype_policy="float32"', 'eval.resize="letterbox"', "model.max_detections=100"]
    predictor = load(folder, overrides)
    predictor.detector.save_weights(weights)
    arrays = []
    for path in images:
        image = read_image(path)
        transform, canvas_hw = make_eval_transform(image.shape[:2], predictor.config)
        arrays.append(preprocess_image(image, transform, canvas_hw))
    np.savez(out, **predictor.detect(np.stack(arrays)))
