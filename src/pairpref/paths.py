"""Where everything is, relative to the repository's root. dvc.yaml spells the same paths."""

from pathlib import Path

DVC = Path("dvc.yaml")
PARAMS = Path("params.yaml")

ARENA = Path("data/raw/simulated")
PAIRS = Path("data/clean/pairs.parquet")
QUARANTINE = Path("data/clean/quarantine.csv")
CLEAN_COUNTS = Path("data/clean/counts.json")
BACKBONE = Path("data/backbone")
TOKENS = Path("data/tokens")
FEATURES = Path("data/features.parquet")
TEMPLATE = TOKENS / "template.json"

BASELINES = Path("data/oof/baselines.parquet")
UNCALIBRATED = Path("data/oof/uncalibrated.parquet")
BY_MODEL = Path("data/oof/by_model.parquet")
MEMBERS = Path("data/oof/members.parquet")
SEEDS = Path("data/oof/seeds.parquet")
SEED_SCORES = Path("data/oof/seeds.json")
FEATURES_OOF = Path("data/oof/features.parquet")
FEATURES_FIGURES = Path("data/oof/features.json")
OOF = Path("data/oof/oof.parquet")
CALIBRATION = Path("data/oof/calibration.json")

MODELS = Path("models")
TOKENIZER = MODELS / "tokenizer"
FOLD_0 = MODELS / "train"
FOLD_0_ANSWERS = FOLD_0 / "validation.parquet"
FURTHER_FOLDS = MODELS / "oof"
EXPERTS = MODELS / "features.safetensors"
FUSION = MODELS / "fusion.json"
CALIBRATOR = MODELS / "calibrator.json"
VOTES = MODELS / "votes.json"

SUBMISSION = Path("submission.csv")
UNREADABLE = Path("submission.unreadable.csv")
TEST_SCORES = Path("data/test.json")

TRAIN_METRICS = Path("metrics/train.json")
CALIBRATE_METRICS = Path("metrics/calibrate.json")
TEST_METRICS = Path("metrics/test.json")
PLOTS = Path("plots")
TRAINING_CURVES = PLOTS / "train.csv"

REPORT = Path("report")
PAGE = REPORT / "index.html"
HEADLINE = REPORT / "headline.json"

VERSIONS = Path("versions")
CATALOG = VERSIONS / "catalog.yaml"
MEASURED = VERSIONS / "measured.csv"
LEADERBOARD = VERSIONS / "leaderboard.csv"
LOG = VERSIONS / "LOG.md"

LOGS = Path("logs")
WORK = Path("work")
