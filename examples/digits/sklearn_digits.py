"""The scikit-learn model: principal components into a support vector machine, calibrated.

Decides what is trained and where the result is kept.  It is trained at the first start, on the
digits as written and deskewed, so that it serves alone and behind ``digits-prep``.  It is not
committed because a pickle is code and only good for the version that wrote it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from data import mnist_data
from serving.deskew import deskew

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.payloads import Images, Probabilities

FILE = f"sklearn-digits-1-sklearn{sklearn.__version__}.joblib"
"""The number changes with the recipe, so that an old file is not taken for a new one."""


def train() -> Any:
    """Return the trained pipeline."""
    digits = mnist_data.load("train")
    plain = digits.images.astype(np.float32)
    images = np.concatenate([plain, deskew(plain)]) / 255
    labels = np.concatenate([digits.labels, digits.labels])
    # A digit and its deskewed copy stay in one fold, or the calibration would be too sure.
    folds = PredefinedSplit(np.arange(len(images)) % len(plain) % 3)
    model = make_pipeline(
        PCA(n_components=50, random_state=0),
        CalibratedClassifierCV(SVC(C=10, gamma=0.02), ensemble=False, cv=folds),
    )
    return model.fit(images, labels)


def load(folder: Path) -> Callable[[Images], Probabilities]:
    """Return the model kept in the folder, trained first if there is none yet.

    Several processes may do so at once.  The folder must be the user's own: it is unpickled.
    """
    path = folder / FILE
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        joblib.dump(train(), partial, compress=3)
        partial.replace(path)
    model = joblib.load(path)
    threadpool_limits(1)  # training may use every core, serving must not

    def predict(images: Images) -> Probabilities:
        probabilities: Probabilities = model.predict_proba(images / 255).astype(np.float32)
        return probabilities

    return predict
