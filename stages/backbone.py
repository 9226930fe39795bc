"""python -m stages.backbone: which backbone exactly.

Writes data/backbone/: links to the files of a local backbone, whose weights DVC then hashes, or the
commit that model.revision names on the hub.
"""

from pairpref import backbone as backbones
from pairpref import monitor
from pairpref.monitor import Log
from pairpref.params import Params


def backbone(params: Params, log: Log) -> None:
    backbones.record(params.model)
    name, revision = params.model.backbone, backbones.source(params.model)[1]
    log.say(f"{name} at commit {revision}" if revision else name)


if __name__ == "__main__":
    monitor.run("backbone", backbone)
