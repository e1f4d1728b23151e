"""Every asset of the pipeline, in one place: the lake's tables, the verdicts, the registered model and the report.

The URIs say what is kept, not where it lies. The home folder belongs to the deployment, and an asset must stay the same one
when that folder moves.
"""

from airflow.sdk import Asset


def _asset(name: str) -> Asset:
    return Asset(name=f"esans/{name}", uri=f"x-esans://{name}")


SOURCE = _asset("source")
ITEMS = _asset("lake/items")
STOCK = _asset("lake/stock")
USERS = _asset("lake/users")
INTERACTIONS = _asset("lake/interactions")
QUARANTINE = _asset("lake/quarantine")
VISUAL = _asset("lake/visual_features")
TEXT = _asset("lake/text_features")
BEHAVIOUR = _asset("lake/behaviour_features")
CODEBOOKS = _asset("lake/codebooks")
CLUSTERS = _asset("lake/clusters")
CLUSTER_INDEX = _asset("lake/cluster_index")
SEQUENCES = _asset("lake/sequences")
BASELINE = _asset("lake/baseline")
CHALLENGER = _asset("lake/challenger")
EVALUATION = _asset("lake/evaluation")
MODEL_VERSION = _asset("registry/version")
CHAMPION = _asset("registry/champion")
CANDIDATES = _asset("lake/candidates")
REPORT = _asset("report")
SERVING = _asset("serving/bundle")
FEATURES = (VISUAL, TEXT, BEHAVIOUR)
