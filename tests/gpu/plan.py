"""What the kit runs, in this order: what tells most about a GPU comes first, since the machine may be taken away at any
moment. The kit has the programs that are named here.

In arguments, {device} is the item's, {data} a folder of the kit's, and {scratch} one for the run's files.
"""
from typing import NamedTuple, Tuple

# What the examples and bench/first_step read by default lies at paths of the machine that built them.
DIGITS = ("--data.csv", "{data}/mnist_5k.csv.gz")
TEXTS = ("--data.files", "{data}/texts")
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")


class Item(NamedTuple):
    table: str  # of docs/gpu.md
    row: str
    column: str  # "" in a table without columns of its own
    commands: Tuple[Tuple[str, ...], ...]  # a program and its arguments; the numbers are what the last one prints
    seconds: int  # at most, all commands together
    device: str = "cpu"  # "cpu": the program sees no GPU
    gpus: int = 0  # so many are needed
    left_out: str = ""  # why it never runs

    @property
    def name(self):
        return ", ".join(part for part in (self.table, self.row, self.column) if part)


class Table(NamedTuple):
    name: str
    title: str
    about: str


TABLES = (
    Table("tests", "Tests", "Those with the CTest label `gpu`, case by case."),
    Table("examples", "Examples", """Each trains with seed 1 and is then tested, or validated. A result is its metric and the
seconds of both together, starts included."""),
    Table("steps", "A training step", """Microseconds of a step of the models of bench/captured, which also has the bare LibTorch
loop; batches are copied to the GPU, and all kernels have ended."""),
    Table("gpus", "Two GPUs of one process", "Microseconds of a step of the models of bench/rank_models.hpp, over NCCL."),
    Table("programs", "Other programs", """They use the CPU, and show that the kit is whole: `bench/run` is the way to measure
with them. What they print first."""),
)


def trained(example, data, fit, judge, seconds, devices=("cuda", "cpu")):
    """An example on the GPU and on the CPU."""
    def on(device):
        common = (*data, *QUIET, "--trainer.accelerator", "{device}", "--trainer.seed", "1",
                  "--trainer.default_root_dir", "{scratch}/" + example + "-{device}")
        program = "examples/" + example
        commands = [(program, "fit", *common, *fit)]
        if judge:
            commands.append((program, judge, *common, "--ckpt_path", "best"))
        return Item("examples", example, "GPU" if device == "cuda" else "CPU", tuple(commands), seconds, device,
                    int(device == "cuda"))
    return [on(device) for device in devices]


def epochs(number):
    return ("--trainer.max_epochs", str(number))


def steps(number):
    return ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(number))


EXAMPLES = (
    trained("digits", DIGITS, epochs(3), "test", 60),
    trained("gpt", TEXTS, steps(60), "validate", 90),
    trained("char_rnn", TEXTS, steps(60), "validate", 60),
    trained("images", (*DIGITS, "--data.dir", "{scratch}/images"), epochs(2), "test", 60),
    trained("autoencoder", DIGITS, epochs(4), "test", 60),
    trained("gan", DIGITS, epochs(3), "validate", 60),
    trained("regression", ("--data.csv", "{data}/autompg.csv.gz"), epochs(60), "test", 60),
    trained("callback_actor", DIGITS, epochs(2), "", 60),
)
TRANSFER = [Item("examples", "transfer", "GPU" if device == "cuda" else "CPU", ((
    "examples/transfer", "fit", "--transfer.csv", "{data}/mnist_5k.csv.gz", *QUIET, "--trainer.max_epochs", "10",
    "--transfer.pretrain_epochs", "2", "--trainer.accelerator", "{device}", "--trainer.default_root_dir",
    "{scratch}/transfer-{device}"),), 90, device, int(device == "cuda")) for device in ("cuda", "cpu")]
RAW_LOOP = [Item("examples", "raw_loop", "GPU" if device == "cuda" else "CPU", ((
    "examples/raw_loop", "fit", "--loop.csv", "{data}/mnist_5k.csv.gz", "--loop.epochs", "1", "--fabric.accelerator",
    "{device}"),), 60, device, int(device == "cuda")) for device in ("cuda", "cpu")]
CUSTOM_OPERATOR = [
    Item("examples", "custom_operator", "GPU", (("examples/custom_operator",),), 0, "cuda", 1,
         "its operator has a kernel for the CPU alone"),
    *trained("custom_operator", DIGITS, epochs(1), "test", 60, ("cpu",))]



def lora(device):
    """The adapters of a GPT that was trained for a moment."""
    common = (*TEXTS, *QUIET, "--trainer.accelerator", "{device}", "--trainer.seed", "1")
    base = "{scratch}/lora_base-{device}"
    own = (*common, "--trainer.default_root_dir", "{scratch}/lora-{device}", "--model.weights",
           base + "/gpt/version_0/checkpoints/last.safetensors")
    return Item("examples", "lora", "GPU" if device == "cuda" else "CPU", (
        ("examples/gpt", "fit", *common, "--trainer.default_root_dir", base, *steps(20)),
        ("examples/lora", "fit", *own, *steps(20)),
        ("examples/lora", "validate", *own, "--ckpt_path", "best")), 90, device, int(device == "cuda"))


MODELS = ("GPT 2 x 32, 8 x 32 tokens", "LSTM of char_rnn, 32 x 64 bytes", "CNN of digits, batch 32",
          "GPT 4 x 128, 16 x 128 tokens")  # of bench/captured, in its order
STEPS = (("400", "20"), ("40", "5"), ("200", "20"), ("60", "3"))  # of an epoch on the GPU, and on the CPU


def step(model, who, device, column, *precision):
    number = STEPS[model][device == "cpu"]
    return Item("steps", MODELS[model], column,
                (("bench/captured", str(model), who, number, "{device}", *precision),), 40, device, int(device == "cuda"))


GPU_STEPS = [step(model, who, "cuda", column, *precision) for model in (3, 0, 2, 1)
             for who, column, precision in (("plain", "Troupe, GPU", ()), ("bare", "LibTorch, GPU", ()),
                                            ("plain", "Troupe, GPU, bf16-mixed", ("bf16-mixed",)))]
CPU_STEPS = [step(model, who, "cpu", column) for model in (3, 0, 2, 1)
             for who, column in (("plain", "Troupe, CPU"), ("captured", "captured, CPU"), ("bare", "LibTorch, CPU"))]

RANK_MODELS = (("mlp", "MLP 784-1024-1024-10, batch 64"), ("gpt", "GPT 4 x 128, 16 x 128 tokens"),
               ("tiny-gpt", "GPT 2 x 32, 8 x 32 tokens"))
TWO_GPUS = [Item("gpus", title, "ddp", (("bench/rank_times", "gpus", model, "plain", "30"),), 60, "cuda", 2)
            for model, title in RANK_MODELS]


def program(row, *commands, seconds=30, left_out=""):
    return Item("programs", row, "", commands, seconds, "cpu", 0, left_out)


PROGRAMS = [
    program("hook_order", ("examples/hook_order", "fit", "--trainer.default_root_dir", "{scratch}/hook_order")),
    program("remote_callback", ("examples/remote_callback", "--help")),
    program("serve", ("examples/digits", "fit", *DIGITS, *QUIET, *epochs(1), "--trainer.default_root_dir", "{scratch}/serve"),
            ("examples/serve", "{scratch}/serve/digits/version_0/checkpoints/last.safetensors")),
    program("troupe runs", ("bin/troupe", "runs", "{scratch}")),
    program("first_step", ("bench/first_step", "fit", *DIGITS, *QUIET, *epochs(1), "--trainer.default_root_dir",
                           "{scratch}/first_step")),
    program("overhead", ("bench/overhead", "1", "200")),
    program("step_times", ("bench/step_times", "0", "captured", "500")),
    program("inference", ("bench/inference", "latency", "1", "5")),
    program("checkpoint", ("bench/checkpoint", "2", "256", "3")),
    program("collectives", ("bench/collectives", "memory")),
    program("growth", ("bench/growth", "parameters", "10", "--quick")),
    program("activation_checkpoint", ("bench/activation_checkpoint", "1")),
    program("metrics", ("bench/metrics", "plain", "500")),
    program("watching", ("bench/watching", "steps", "1", "200")),
    program("async_validation", ("bench/async_validation", "1", "50", "2")),
    program("attach", ("bench/watching", "attach", "1", "200")),
    program("strategies", ("bench/strategies", "--quick"), seconds=90),
    program("loading", ("bench/loading", "tensors", "{scratch}", "2", "1")),
    program("weights", ("bench/weights", "make", "10", "{scratch}/weights"),
            ("bench/weights", "whole", "{scratch}/weights", "3")),
    program("distributed", ("bench/distributed",), left_out="it starts ranks by launch/run of the source tree"),
]


def by_device(groups, device):
    return [item for group in groups for item in group if item.device == device]


ITEMS = (
    Item("tests", "fit_gpu_test", "", (("tests/fit_gpu_test",),), 120, "cuda"),
    Item("tests", "nccl_backend_test", "", (("tests/nccl_backend_test",),), 60, "cuda"),
    *by_device(EXAMPLES[:2], "cuda"),
    *GPU_STEPS,
    *by_device(EXAMPLES[2:], "cuda"),
    TRANSFER[0], RAW_LOOP[0], lora("cuda"), CUSTOM_OPERATOR[0],
    *TWO_GPUS,
    *by_device(EXAMPLES, "cpu"),
    TRANSFER[1], RAW_LOOP[1], lora("cpu"), CUSTOM_OPERATOR[1],
    *CPU_STEPS,
    *PROGRAMS,
)


def chosen(words):
    """The items that have one of the words in their names."""
    return [item for item in ITEMS if any(word in item.name for word in words)]
