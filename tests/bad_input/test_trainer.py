"""Options of the Trainer and of loggers."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "trainer.precision=13",
        "precision must be null or 64 or 32 or 16 or transformer-engine or "
        "transformer-engine-float16 or 16-true or 16-mixed or bf16-true or bf16-mixed or 32-true "
        "or 64-true or 64 or 32 or 16 or bf16, got 13; change precision",
    ),
    (
        "trainer.devices=0",
        "can't build pytorch_lightning.Trainer: `Trainer(devices=0)` value is not a valid input "
        "using cpu accelerator.",
    ),
    (
        "trainer.devices=abc",
        "can't build pytorch_lightning.Trainer: `devices` selected with `CPUAccelerator` should "
        "be an int > 0.",
    ),
    (
        "trainer.accelerator=abacus",
        "can't build pytorch_lightning.Trainer: You selected an invalid accelerator name: "
        "`accelerator='abacus'`. Available names are: …",
    ),
    (
        "+trainer.strategy=teleport",
        "can't build pytorch_lightning.Trainer: You selected an invalid strategy name: "
        "`strategy='teleport'`. It must be either a string or an instance of "
        "`pytorch_lightning.strategies.Strategy`. Example choices: auto, ddp, ddp_spawn, "
        "deepspeed, ... Find a complete list of options in our documentation at "
        "https://lightning.ai",
    ),
    (
        "+trainer.strategy=fsdp",
        "can't build pytorch_lightning.Trainer: The strategy `fsdp` requires a GPU accelerator, "
        "but received `accelerator='cpu'`. Please set `accelerator='cuda'`, `accelerator='gpu'`, "
        "or pass a `CUDAAccelerator()` instance to use FSDP.",
    ),
    (
        "trainer.val_check_interval=0",
        "trainer.val_check_interval must be finite and above 0, got 0; change "
        "trainer.val_check_interval",
    ),
    (
        "trainer.val_check_interval=abc",
        "trainer.val_check_interval must be a number above 0, got 'abc'; write it as "
        "trainer.val_check_interval=0.1",
    ),
    (
        "trainer.val_check_interval=2.5",
        "can't build pytorch_lightning.Trainer: You have passed invalid value 2.5 for "
        "val_check_interval, it has to be in [0.0, 1.0] or an int.",
    ),
    (
        "+trainer.accumulate_grad_batches=0",
        "trainer.accumulate_grad_batches must be an integer of at least 1, got 0; pass a larger "
        "trainer.accumulate_grad_batches",
    ),
    (
        "+trainer.accumulate_grad_batches=abc",
        "trainer.accumulate_grad_batches must be an integer of at least 1, got 'abc'; pass a "
        "larger trainer.accumulate_grad_batches",
    ),
    (
        "+trainer.gradient_clip_val=-1",
        "trainer.gradient_clip_val must be finite and at least 0, got -1; change "
        "trainer.gradient_clip_val",
    ),
    (
        "+trainer.limit_train_batches=0",
        "trainer.limit_train_batches must be finite and above 0, got 0; change "
        "trainer.limit_train_batches",
    ),
    (
        "+trainer.limit_train_batches=-1",
        "trainer.limit_train_batches must be finite and above 0, got -1; change "
        "trainer.limit_train_batches",
    ),
    (
        "+trainer.max_time=soon",
        "can't build pytorch_lightning.Trainer: `Timer(duration='soon')` is not a valid duration."
        " Expected a string in the format DD:HH:MM:SS.",
    ),
    (
        "+trainer.deterministic=maybe",
        "deterministic must be true or false or null or warn, got 'maybe'; change deterministic",
    ),
    (
        "+trainer.benchmark=maybe",
        "benchmark must be true or false or null, got 'maybe'; change benchmark",
    ),
    (
        "trainer.max_epochs=abc",
        "max_epochs must be a whole number or null, got 'abc'; change max_epochs",
    ),
    (
        "trainer.max_epochs=-5",
        "can't build pytorch_lightning.Trainer: `max_epochs` must be a non-negative integer or "
        "-1. You passed in -5.",
    ),
    (
        "trainer.max_epochs=0",
        "trainer.max_epochs must be at least 1, or -1 for no limit, got 0: use max_epochs=1",
    ),
    (
        "trainer.max_steps=0",
        "trainer.max_steps must be at least 1, or -1 for no limit, got 0: use max_steps=1",
    ),
    (
        "+trainer.check_val_every_n_epoch=0",
        "trainer.check_val_every_n_epoch must be an integer of at least 1, got 0; pass a larger "
        "trainer.check_val_every_n_epoch",
    ),
    (
        "+trainer.fast_dev_run=true",
        "trainer.fast_dev_run must be false, since it leaves out the files of a run, got True: "
        "use max_steps=1",
    ),
    (
        "+trainer._partial_=true",
        "trainer must build a Trainer of pytorch_lightning, got a …: change trainer._target_ or "
        "leave out trainer._partial_",
    ),
    (
        "trainer._target_=lightning.pytorch.Trainer",
        "trainer must build a Trainer of pytorch_lightning, got a lightning.pytorch.…: change "
        "trainer._target_ or leave out trainer._partial_",
    ),
    (
        "trainer.num_sanity_val_steps=abc",
        "num_sanity_val_steps must be a whole number or null, got 'abc'; change "
        "num_sanity_val_steps",
    ),
    (
        "trainer.log_every_n_steps=abc",
        "log_every_n_steps must be a whole number or null, got 'abc'; change log_every_n_steps",
    ),
    (
        "trainer.enable_checkpointing=maybe",
        "enable_checkpointing must be true or false or null, got 'maybe'; change "
        "enable_checkpointing",
    ),
    (
        "+trainer.fast_dev_run=maybe",
        "fast_dev_run must be a whole number or true or false, got 'maybe'; change fast_dev_run",
    ),
    (
        "+trainer.num_nodes=0",
        "can't build pytorch_lightning.Trainer: `num_nodes` must be a positive integer, but got 0.",
    ),
    (
        "+trainer.profiler=x",
        "can't build pytorch_lightning.Trainer: When passing string value for the `profiler` "
        "parameter of `Trainer`, it can only be one of ['simple', 'advanced', 'pytorch', 'xla']",
    ),
    (
        "+trainer.logger=x",
        "trainer.logger comes from the group logger, got 'x': use logger=… or "
        "+logger.mine._target_=…",
    ),
    (
        "'+trainer.callbacks=[]'",
        "trainer.callbacks comes from the group callbacks, got []: use callbacks=… or "
        "+callbacks.mine._target_=…",
    ),
    (
        "logger.csv.folder=5",
        "folder must be a text or a PathLike, got 5; change folder",
    ),
    (
        "logger.csv=null",
        "logger.csv must be there, since summary and figures are made of its metrics.csv, got "
        "none: leave it as it is",
    ),
    (
        "+logger.csv.nonsense=1",
        "can't build lightning_lazy.MetricsLog: MetricsLog.__init__() got an unexpected keyword "
        "argument 'nonsense'",
    ),
    (
        "logger=tensorboard 'logger.tensorboard.name=[a]'",
        "name must be a text or null, got ['a']; change name",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_an_option_of_the_trainer_is_refused(
    refused: Callable[[str, str], None], overrides: str, line: str
) -> None:
    refused(overrides, line)
