// What LibTorch's autocast asks of oneDNN and this CPU cannot do.
#pragma once

namespace troupe {

/// Autocast gives oneDNN's layer for LSTM (`aten::mkldnn_rnn_layer`) 16-bit numbers on every CPU, and oneDNN refuses
/// them where the CPU has no instructions for them ("could not create a primitive descriptor"): bfloat16 without
/// AVX-512, float16 without AVX-512 FP16, and float16 in training on any. Other operators look first and have kernels
/// of LibTorch's to fall back on.
///
/// Asks oneDNN once, with a layer of one number, what it can do here, and where it refuses sees that the layer runs in
/// float32 under autocast, as PyTorch's does with oneDNN switched off; GRU and the cells stay in float32 anyway. Holds
/// for the process from then on. From any thread, before it uses autocast; later calls cost nothing.
void mend_cpu_autocast();

}  // namespace troupe
