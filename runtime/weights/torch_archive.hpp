// The zip archives of PyTorch: torch.save's files, exported programs and TorchScript's.
#pragma once

#include <caffe2/serialize/inline_container.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace troupe {

/// Stands between LibTorch's writer of archives and what takes its bytes: the writer ends an archive in its destructor,
/// where an exception would end the program. What the taker throws waits here.
class ArchiveSink {
 public:
  using Take = std::function<void(std::span<const std::byte>)>;
  explicit ArchiveSink(Take take) : take_(std::move(take)) {}

  std::size_t operator()(const void* bytes, std::size_t size) {
    try {
      if (!failure_) take_({static_cast<const std::byte*>(bytes), size});
    } catch (...) {
      failure_ = std::current_exception();
    }
    return size;
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  Take take_;
  std::exception_ptr failure_;
};

/// Takes the name and the bytes of a record.
using TorchRecordWriter = std::function<void(const std::string&, std::string_view)>;

/// Gives `take` an archive, piece by piece, with the records that `fill` writes, and at its end "version" and
/// ".data/serialization_id". `min_version` is the lowest number of that version, which says the layout. What `take` or
/// `fill` throws is thrown on.
inline void write_torch_archive(ArchiveSink::Take take, const std::function<void(const TorchRecordWriter&)>& fill,
                                uint64_t min_version = 0) {
  ArchiveSink sink(std::move(take));
  caffe2::serialize::PyTorchStreamWriter archive(std::ref(sink));
  archive.setMinVersion(min_version);
  fill([&](const std::string& name, std::string_view bytes) {
    archive.writeRecord(name, bytes.data(), bytes.size());
    sink.rethrow();
  });
  archive.writeEndOfFile();
  sink.rethrow();
}

}  // namespace troupe
