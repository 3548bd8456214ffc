# Once-For-All's own network in PyTorch, made ready as a candidate for `npm run bench:candidate`: extracted, recalibrated, exported and scored.
# Answers each line on stdin with the seconds of each part. Usage: candidate_ofa.py OFA_REPO WIDTH SIDE CLASSES CALIBRATION SCORED THREADS
import io
import json
import sys
import time

repository, width, side, classes, calibration, scored, threads = sys.argv[1:]
sys.path.insert(0, repository)
import torch  # needs onnx too: its exporter asks for it
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

torch.set_num_threads(int(threads))
torch.manual_seed(1)
supernet = OFAMobileNetV3(
    n_classes=int(classes), width_mult=float(width), ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
)
size = int(side)
batches = [(torch.randn(200, 3, size, size), None) for _ in range(int(calibration) // 200)]
images = [torch.randn(100, 3, size, size) for _ in range(int(scored) // 100)]

for _ in sys.stdin:
    marks = [time.perf_counter()]
    supernet.set_active_subnet(ks=5, e=4, d=3)
    subnet = supernet.get_active_subnet(preserve_weight=True)
    marks.append(time.perf_counter())
    set_running_statistics(subnet, batches)
    marks.append(time.perf_counter())
    subnet.eval()
    with torch.no_grad():
        torch.onnx.export(subnet, images[0][:1], io.BytesIO(), dynamo=False)
        marks.append(time.perf_counter())
        for batch in images:
            subnet(batch).argmax(1)
    marks.append(time.perf_counter())
    parts = [after - before for before, after in zip(marks, marks[1:])]
    print(json.dumps(dict(zip(["extract", "calibrate", "export", "score"], parts))), flush=True)
