// CRC-32C (Castagnoli), the checksum of TFRecord files; zlib's crc32 uses another polynomial.
#pragma once

#include <cstdint>
#include <string_view>

namespace troupe {

/// CRC-32C of `data` as RFC 3720, section B.4 defines it.
uint32_t crc32c(std::string_view data);

/// The checksum as TFRecord files store it: rotated and offset, so that a checksum of data that holds checksums stays
/// meaningful (https://www.tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details").
uint32_t masked_crc32c(std::string_view data);

}  // namespace troupe
