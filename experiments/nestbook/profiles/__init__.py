"""What NesT's time is spent on, and how it grows with its input."""

MACHINE_RATES = ("matmul_gflop_per_second", "copy_gbyte_per_second")  # of the profile rates
PROFILES = {
    "rates": "the machine's own: a large matrix product and a large copy",
    "roofline": "a forward pass of NesT-T at 224, part by part, beside what the machine could do",
    "step": "training steps of NesT here and in timm, by kinds of operators",
    "growth": "time and memory against batch, pixels and depth; DeiT-S beside it",
    "attention": "ways to attend within blocks, by length and width of a head",
    "products": "linear layers as torch's linear and as 1x1 convolutions, on a CPU",
    "input": "batches made without a model, beside the training steps that use them",
    "explaining": "GradCAT and class maps of 64 images, beside a pass of training",
    "export": "forward passes of ONNX files in onnxruntime, beside eager torch",
    "loader": "images decoded and augmented on the CPU, beside torchvision's pipeline",
    "streaming": "memory over ten minutes of reading shards from a server",
}
