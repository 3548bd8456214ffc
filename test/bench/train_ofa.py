# Once-For-All's own network in PyTorch, trained for `npm run bench:train` as our worker trains ours: answers each line on stdin, "run N", with
# the seconds that N steps took. Usage: train_ofa.py OFA_REPO WIDTH SIDE CLASSES SUBNETS BATCH THREADS LAYOUT
import copy
import json
import random
import sys
import time

repository, width, side, classes, subnets, batch, threads, layout = sys.argv[1:]
sys.path.insert(0, repository)
import torch
import torch.nn.functional as F
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

torch.set_num_threads(int(threads))
torch.manual_seed(1)
random.seed(1)
student = OFAMobileNetV3(
    n_classes=int(classes), width_mult=float(width), ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
)
student.set_max_net()
teacher = copy.deepcopy(student)
memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
student, teacher = student.to(memory_format=memory).train(), teacher.to(memory_format=memory).train()
images = torch.randn(int(batch), 3, int(side), int(side)).to(memory_format=memory)
labels = torch.randint(0, int(classes), (int(batch),))
optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=3e-5)


def step():
    with torch.no_grad():
        target = F.softmax(teacher(images), dim=1)
    optimizer.zero_grad()
    for _ in range(int(subnets)):
        student.sample_active_subnet()
        logits = student(images)
        distilled = -(target * F.log_softmax(logits, dim=1)).sum(1).mean()
        (distilled + F.cross_entropy(logits, labels, label_smoothing=0.1)).backward()
    optimizer.step()


for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line.split()[1])):
        step()
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
