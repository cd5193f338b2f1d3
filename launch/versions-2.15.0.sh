# What launch/versions.sh says otherwise with LibTorch 2.15.0 (launch/setup --torch 2.15.0).
torch=2.15.0
nvidia_cudnn_cu13=9.26.0.51
nvidia_cuda_runtime=13.2.86
nvidia_cuda_cupti=13.2.86
torchvision=0.29.2
