// What LibTorch's schemas say of an operator that a replay has to know.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstddef>
#include <optional>
#include <string>

namespace troupe::capture {

/// "aten::addmm", "aten::add_.Tensor".
std::string name_of(const c10::OperatorHandle& op);
/// Why a step with this operator cannot be captured; empty: it can.
std::string reason_against(const c10::OperatorHandle& op);
/// Whether it writes argument number `index`.
bool writes(const c10::OperatorHandle& op, std::size_t index);
bool writes_any(const c10::OperatorHandle& op);
/// Whether its result may be a view of argument number `index`, which it then does not read.
bool views(const c10::OperatorHandle& op, std::size_t index);
/// Whether it writes all of the arguments that it writes, and reads nothing of them: fill_, copy_, normal_.
bool overwrites(const c10::OperatorHandle& op);
/// Whether it allocates only: empty and its like.
bool only_allocates(const c10::OperatorHandle& op);
bool draws(const c10::OperatorHandle& op);
/// The overload that writes its results into memory that it is given, by a kernel of its own (what LibTorch generates
/// from the other overload allocates and copies). Nothing if there is none.
std::optional<c10::OperatorHandle> out_twin(const c10::OperatorHandle& op);

}  // namespace troupe::capture
