"""What was assumed, because the paper could not be read in full. The report prints it."""

ASSUMED = (
    "Known of the paper, second hand: nodes, rates of the radio and of the cable, models, the rule's terms, the"
    " largest cuts. Not known: rates, gammas, absolute times, how many sources, how models were cut.",
    "Sources: one on every device (four of six on the multi-hop setting), the first one urgent (gamma 10, "
    "others 1), equal Poisson rates, 100 works each, means over 3 seeds. The demo: two sources, on A and D.",
    "Models are cut into 4 parts of nearly equal operations, as in the published demo. Tensors are FP32, their "
    "sizes exact.",
    "Seconds are operations / (peak FP32 operations per second of the CPU x 0.1). Not measured on those boards;"
    " three rows vary it: half, three times, and the published TensorRT figures (ResNet-50: 312 and 34.2 "
    "frames/s).",
    "The radio is one server for all links, frame by frame: once with the most urgent frame of all stations first, "
    "once with stations that take turns, as a real radio does rather. Multi-hop: three Xavier in a triangle, a Nano "
    "behind each.",
    "Load 1.0 is what MS-MDI gets through when all works of all sources wait. Saturation is that run: 100 works of "
    "every source within a tenth of a second, in random order.",
    "Throughput kept, against MS-MDI, is said twice: until a source's own last answer, and over the whole run.",
    "AR-MDI: static chains, units in proportion to speed, blind to the network. MS-MDI: PA-MDI with equal "
    "priorities. Both known by description only. AR-MDI sends large tensors over a slow radio for every work, "
    "so the cut against it is larger here than published: the baseline reads worse, not only ours better. "
    "AR-MDI is run with the first seed alone: it takes ten times as long to simulate.",
    "Every device holds every unit. reservation_s 30, resend_s 60, ask_s 5, for every policy: a tensor of 3 MB "
    "takes more than a second on that radio.",
)
