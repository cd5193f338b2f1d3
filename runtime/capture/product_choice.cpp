#include "troupe/runtime/capture/product_choice.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/addmm_cpu_dispatch.h>
#include <ATen/ops/bmm_cpu_dispatch.h>
#include <ATen/ops/mm_cpu_dispatch.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace troupe::capture {

namespace {

constexpr int64_t most_operations = int64_t{1} << 29;  // of a product that is tried: it is called up to thirty times
constexpr int64_t operations_of_thread = int64_t{1} << 21;  // with fewer a thread costs more than it brings

// What LibTorch chooses a kernel by, besides the matrices.
struct Setting {
  int threads = at::get_num_threads();
  bool flushes = flushes_denormals();
  at::Float32Precision precision =
      at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL);

  auto operator<=>(const Setting&) const = default;
};

// --- Products in parts ---

struct Part {
  Products products;
  int64_t a = 0, b = 0, start = 0, out = 0;  // where they begin
};

int64_t operations(const Products& p) {
  return 2 * p.count * p.each.rows * p.each.columns * p.each.depth;
}

// One for each thread: of several products some, of one its rows, or columns if there are more of them.
std::vector<Part> parts_of(const Products& products) {
  const MatrixProduct& each = products.each;
  const int64_t threads = std::clamp<int64_t>(operations(products) / operations_of_thread, 1, at::get_num_threads());
  const bool by_count = products.count > 1, by_rows = !by_count && each.rows >= each.columns;
  const int64_t all = by_count ? products.count : by_rows ? each.rows : each.columns;
  const int64_t whole = by_count ? 1 : 48;  // a tile's rows, and its lanes, go into it
  const int64_t size = threads == 1 ? all : ((all + threads - 1) / threads + whole - 1) / whole * whole;
  std::vector<Part> parts;
  for (int64_t from = 0; from < all; from += size) {
    Part part{products};
    const int64_t count = std::min(size, all - from);
    if (by_count) {
      part.products.count = count;
      part.a = from * each.rows * each.depth;
      part.b = from * each.depth * each.columns;
      part.out = from * each.rows * each.columns;
    } else if (by_rows) {
      part.products.each.rows = count;
      part.a = from * each.a_row;
      part.out = from * each.out_row;
    } else {
      part.products.each.columns = count;
      part.b = from * each.b_column;
      part.start = part.out = from;
    }
    parts.push_back(part);
  }
  return parts;
}

class Multiplication {
 public:
  Multiplication(const Products& products, const Summation& summation)
      : parts_(parts_of(products)),
        rooms_(parts_.size()),
        zeros_(summation.begins_with_zero ? static_cast<std::size_t>(products.each.columns) : 0),
        block_(summation.block) {}

  void operator()(const float* a, const float* b, const float* start, float* out) {
    if (!start && !zeros_.empty()) start = zeros_.data();
    const auto compute = [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        const Part& part = parts_[i];
        const MatrixProduct& each = part.products.each;
        for (int64_t k = 0; k < part.products.count; ++k) {
          multiply(each, block_, a + part.a + k * each.rows * each.depth, b + part.b + k * each.depth * each.columns,
                   start ? start + part.start : nullptr, out + part.out + k * each.rows * each.columns, rooms_[i]);
        }
      }
    };
    const auto count = static_cast<int64_t>(parts_.size());
    if (count == 1) {
      compute(0, 1);
    } else {
      at::parallel_for(0, count, 1, compute);
    }
  }

 private:
  std::vector<Part> parts_;
  std::vector<std::vector<float>> rooms_;
  std::vector<float> zeros_;
  int64_t block_;
};

const float* data_of(const torch::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

Products products_of(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& out) {
  return {{a.size(-2), b.size(-1), a.size(-1), a.stride(-2), a.stride(-1), b.stride(-2), b.stride(-1), out.stride(-2)},
          a.dim() == 3 ? a.size(0) : 1,
          a.dim() == 3};
}

// One behind another, or alone.
bool lie_in_a_row(const torch::Tensor& tensor) {
  return tensor.dim() == 2 || tensor.size(0) == 1 || tensor.stride(0) == tensor.size(1) * tensor.size(2);
}

// --- The trial ---

// One of its dimensions lies without gaps, and not much memory between.
bool is_tidy(int64_t rows, int64_t row, int64_t columns, int64_t column) {
  if (row == 1) return column >= rows && column <= 4 * rows + 64;
  return column == 1 && row >= columns && row <= 4 * columns + 64;
}

// What products are tried with. `offset`: at which number of its memory each tensor begins.
struct Matrices {
  Matrices(const Products& p, bool has_start, int64_t offset)
      : a(matrices(p, p.each.rows, p.each.depth, p.each.a_row, p.each.a_step, offset)),
        b(matrices(p, p.each.depth, p.each.columns, p.each.b_step, p.each.b_column, offset)),
        start(has_start ? torch::zeros({offset + p.each.columns}).narrow(0, offset, p.each.columns) : torch::Tensor()),
        theirs(matrices(p, p.each.rows, p.each.columns, p.each.out_row, 1, offset)),
        ours(matrices(p, p.each.rows, p.each.columns, p.each.out_row, 1, offset)) {}

  static torch::Tensor matrices(const Products& p, int64_t rows, int64_t columns, int64_t row, int64_t column,
                                int64_t offset) {
    const int64_t size = (rows - 1) * row + (columns - 1) * column + 1;
    const auto memory = torch::zeros({offset + p.count * size});
    return p.is_batched ? memory.as_strided({p.count, rows, columns}, {size, row, column}, offset)
                        : memory.as_strided({rows, columns}, {row, column}, offset);
  }

  torch::Tensor a, b, start, theirs, ours;
};

// `small`: their products are denormal. `vanishing`: their products are too small for a number, and of one sign in each
// column.
enum class Numbers { random, extreme, small, zeros, vanishing };

class Trial {
 public:
  Trial(const Products& products, bool has_start) : products_(products), has_start_(has_start) {}

  /// `known`: blocks of other products, which are tried before one is looked for.
  std::optional<Summation> run(const std::set<int64_t>& known) {
    Matrices aligned(products_, has_start_, 0), shifted(products_, has_start_, 1);
    const auto found =
        std::ranges::find_if(known, [&](int64_t block) { return agrees({block}, aligned, Numbers::random); });
    Summation summation{found != known.end() ? *found : find_block(aligned)};
    if (!has_start_) summation.begins_with_zero = !agrees(summation, aligned, Numbers::vanishing);
    // Of small products more than one, so that as many numbers agree.
    constexpr int64_t enough = 4096;
    for (int64_t tried = 0; tried < enough; tried += aligned.theirs.numel()) {
      for (const auto kind : {Numbers::random, Numbers::extreme, Numbers::small, Numbers::zeros, Numbers::vanishing}) {
        if (!agrees(summation, aligned, kind)) return std::nullopt;
        const bool has_been_seen = is_long() && kind != Numbers::random;
        if (!has_been_seen && !agrees(summation, shifted, kind)) return std::nullopt;
      }
    }
    fill(aligned, Numbers::random);
    return is_faster(summation, aligned) ? std::optional(summation) : std::nullopt;
  }

 private:
  static void compute_theirs(Matrices& m) { library_product(m.a, m.b, m.start, m.theirs); }
  static void compute_ours(Multiplication& multiplication, Matrices& m) {
    multiplication(data_of(m.a), data_of(m.b), data_of(m.start), m.ours.mutable_data_ptr<float>());
  }

  // How many terms have been added up when the first and `term` meet: with a large number and its opposite in these two
  // and ones elsewhere, a one counts if it comes later. One number of the result tells.
  int64_t terms_at_meeting(Matrices& m, int64_t term) {
    constexpr float large = 0x1p100f;
    float* a = m.a.mutable_data_ptr<float>();
    for (int64_t k = 0; k < products_.each.depth; ++k)
      a[k * products_.each.a_step] = k == 0 ? large : k == term ? -large : 1;
    compute_theirs(m);
    return products_.each.depth - static_cast<int64_t>(m.theirs.const_data_ptr<float>()[0]);
  }

  // Within the first block the first term and the one with number k meet when k + 1 have been added up; beyond it,
  // later.
  int64_t find_block(Matrices& m) {
    float* b = m.b.mutable_data_ptr<float>();
    for (int64_t k = 0; k < products_.each.depth; ++k) b[k * products_.each.b_step] = 1;
    int64_t inside = 0, beyond = products_.each.depth;
    while (beyond - inside > 1) {
      const int64_t middle = inside + (beyond - inside) / 2;
      (terms_at_meeting(m, middle) == middle + 1 ? inside : beyond) = middle;
    }
    return beyond;
  }

  void fill(const torch::Tensor& tensor, Numbers numbers) {
    if (!tensor.defined()) return;
    using Limits = std::numeric_limits<float>;
    constexpr float extremes[] = {0,
                                  -0.0f,
                                  1,
                                  -1,
                                  Limits::denorm_min(),
                                  -Limits::min(),
                                  Limits::max(),
                                  Limits::infinity(),
                                  -Limits::infinity(),
                                  Limits::quiet_NaN()};
    constexpr uint32_t finite = 7;
    auto* data = static_cast<float*>(tensor.storage().mutable_data());
    const auto count = static_cast<int64_t>(tensor.storage().nbytes() / sizeof(float));
    for (int64_t i = 0; i < count; ++i) {
      // Of both signs and of different sizes, 1/64 to 2, so that another order rounds otherwise.
      const uint32_t draw = next_draw();
      data[i] = std::bit_cast<float>((draw & 0x807fffffU) | ((121 + (draw >> 23 & 7) * 7 / 8) << 23));
      if (numbers != Numbers::extreme) continue;
      const uint32_t other = next_draw();
      if (other % 8 != 0) continue;
      // Few are not finite: what they meet is NaN.
      const bool is_finite = other / 8 % 64 != 0;
      data[i] = extremes[is_finite ? other / 512 % finite : finite + other / 512 % (std::size(extremes) - finite)];
    }
  }

  // By Marsaglia's xorshift (2003): millions are drawn.
  uint32_t next_draw() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    return state_ ^= state_ << 5;
  }

  bool is_long() const { return operations(products_) >= int64_t{1} << 24; }

  void fill(Matrices& m, Numbers numbers) {
    for (const auto& tensor : {m.a, m.b, m.start}) fill(tensor, numbers);
    if (numbers == Numbers::random || numbers == Numbers::extreme) return;
    if (numbers == Numbers::small) {
      for (const auto& tensor : {m.a, m.b}) tensor.mul_(0x1p-70f);
      if (m.start.defined()) m.start.mul_(0x1p-70f).mul_(0x1p-70f);
      return;
    }
    // A sum is -0 only if nothing but -0 was added: in columns where b is negative nothing else is, or in the others.
    m.b.copy_(m.b.select(-2, 0).unsqueeze(-2).clone());
    if (m.start.defined()) m.start.mul_(-0.0f);
    if (numbers == Numbers::zeros) {
      m.a.zero_();
    } else {
      m.a.fill_(0x1p-100f);
      m.b.mul_(0x1p-100f);
    }
  }

  bool agrees(const Summation& summation, Matrices& m, Numbers numbers) {
    fill(m, numbers);
    Multiplication multiplication(products_, summation);
    compute_theirs(m);
    compute_ours(multiplication, m);
    const auto* theirs = m.theirs.const_data_ptr<float>();
    const auto* ours = m.ours.const_data_ptr<float>();
    // Of two NaNs an operation passes on one, which depends on how a compiler has placed the operands.
    for (int64_t i = 0; i < m.theirs.numel(); ++i) {
      if (std::isnan(theirs[i]) && std::isnan(ours[i])) continue;
      if (std::bit_cast<uint32_t>(theirs[i]) != std::bit_cast<uint32_t>(ours[i])) return false;
    }
    return true;
  }

  // Best of a few, in turn: of long ones two.
  bool is_faster(const Summation& summation, Matrices& m) {
    Multiplication multiplication(products_, summation);
    using Clock = std::chrono::steady_clock;
    auto theirs = Clock::duration::max(), ours = theirs;
    for (int i = 0; i < (is_long() ? 2 : 6); ++i) {
      const auto begin = Clock::now();
      compute_theirs(m);
      const auto middle = Clock::now();
      compute_ours(multiplication, m);
      theirs = std::min(theirs, middle - begin);
      ours = std::min(ours, Clock::now() - middle);
    }
    return ours < theirs;
  }

  Products products_;
  bool has_start_;
  uint32_t state_ = 2463534242;
};

}  // namespace

void library_product(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& start, torch::Tensor& out) {
  if (a.dim() == 3) {
    at::cpu::bmm_out(out, a, b);
    return;
  }
  if (!start.defined()) {
    at::cpu::mm_out(out, a, b);
    return;
  }
  // The start by hand, which LibTorch does with a loop for any strides.
  auto* to = out.mutable_data_ptr<float>();
  const auto* from = start.const_data_ptr<float>();
  const int64_t rows = out.size(0), columns = out.size(1);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(from, columns, to + i * columns);
  at::cpu::addmm_out(out, out, a, b, 1, 1);
}

std::optional<Summation> faster_summation(const Products& products, bool has_start) {
  const MatrixProduct& each = products.each;
  if (!can_multiply() || each.rows < 1 || each.columns < 1 || each.depth < 1 || products.count < 1) return std::nullopt;
  if (!is_tidy(each.rows, each.a_row, each.depth, each.a_step) ||
      !is_tidy(each.depth, each.b_step, each.columns, each.b_column) || each.out_row != each.columns) {
    return std::nullopt;
  }
  if (most_operations / 2 / each.rows / each.columns / products.count < each.depth) return std::nullopt;
  const Setting setting;
  // Its other threads do not, and MKL gives them other numbers than we do.
  if (setting.flushes && setting.threads > 1) return std::nullopt;
  static std::mutex mutex;
  static std::map<std::tuple<Products, bool, Setting>, std::optional<Summation>> known;
  static std::set<int64_t> blocks;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = known.try_emplace({products, has_start, setting});
  if (is_new) {
    entry->second = Trial(products, has_start).run(blocks);
    if (entry->second && entry->second->block < each.depth) blocks.insert(entry->second->block);
  }
  return entry->second;
}

int64_t elements_past_vector(const torch::Tensor& tensor) {
  constexpr std::size_t bytes_of_vector = 16;
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % bytes_of_vector /
                              tensor.element_size());
}

std::function<void()> make_product(torch::Tensor a, torch::Tensor b, torch::Tensor start, torch::Tensor out) {
  const auto products = products_of(a, b, out);
  auto by_library = [a, b, start, out]() mutable { library_product(a, b, start, out); };
  if (!lie_in_a_row(a) || !lie_in_a_row(b)) return by_library;
  const auto summation = faster_summation(products, start.defined());
  if (!summation) return by_library;
  return [multiplication = std::make_shared<Multiplication>(products, *summation), setting = Setting(), a, b, start,
          out, by_library]() mutable {
    if (Setting() != setting) return by_library();
    (*multiplication)(data_of(a), data_of(b), data_of(start), out.mutable_data_ptr<float>());
  };
}

}  // namespace troupe::capture
