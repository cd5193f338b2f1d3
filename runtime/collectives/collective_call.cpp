#include "troupe/runtime/collectives/collective_call.hpp"

#include <algorithm>
#include <sstream>

namespace troupe {
namespace {

const char* name_of(c10d::ReduceOp::RedOpType op) {
  switch (op) {
    case c10d::ReduceOp::SUM: return "sum";
    case c10d::ReduceOp::AVG: return "mean";
    case c10d::ReduceOp::PRODUCT: return "product";
    case c10d::ReduceOp::MIN: return "min";
    case c10d::ReduceOp::MAX: return "max";
    default: return "unknown";
  }
}

bool reduces(Collective kind) {
  return kind == Collective::all_reduce || kind == Collective::reduce_scatter;
}

}  // namespace

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::all_reduce: return "all-reduce";
    case Collective::broadcast: return "broadcast";
    case Collective::all_gather: return "all-gather";
    case Collective::reduce_scatter: return "reduce-scatter";
    case Collective::barrier: return "barrier";
  }
  return "unknown";
}

int64_t CollectiveCall::bytes() const {
  int64_t bytes = 0;
  for (const auto* tensor : {&input, &output}) {
    if (tensor->defined()) bytes = std::max(bytes, static_cast<int64_t>(tensor->nbytes()));
  }
  return bytes;
}

std::string CollectiveCall::describe() const {
  std::ostringstream text;
  text << name_of(kind);
  if (reduces(kind)) text << " (" << name_of(op) << ")";
  if (kind == Collective::broadcast) text << " from rank " << root;
  if (kind == Collective::barrier) return text.str();
  text << " of " << input.scalar_type() << " ";
  if (kind == Collective::all_gather) {
    // A rank's own shape may be another than the others': what all know are the numbers of elements.
    text << at::IntArrayRef(counts) << " elements";
  } else {
    text << input.sizes();
  }
  return text.str();
}

bool matches(const CollectiveCall& a, const CollectiveCall& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == Collective::barrier) return true;
  if (a.input.scalar_type() != b.input.scalar_type() || a.root != b.root) return false;
  if (reduces(a.kind) && a.op != b.op) return false;
  return a.kind == Collective::all_gather ? a.counts == b.counts : a.input.sizes() == b.input.sizes();
}

}  // namespace troupe
