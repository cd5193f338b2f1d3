// The order of hooks, in one table (protocol rule P4). It is the order of the section "Hooks" of Lightning's module
// guide, word for word, batch hooks before the transfer hooks included; the test of this file holds it against that
// pseudo-code.
//
// Boundary hooks are sent to workers as these lists; batch hooks are run by the worker, in the order of the list of
// their stage.
#pragma once

#include "troupe/modules/hooks.hpp"

#include <array>

namespace troupe::hook_order {

/// On the rank that prepares data, before any device is used.
inline constexpr std::array before_devices = {Hook::prepare_data, Hook::configure_callbacks};

/// What brings a batch to the device: of the data module where it overrides one, else of the module.
inline constexpr std::array transfer = {Hook::on_before_batch_transfer, Hook::transfer_batch_to_device,
                                        Hook::on_after_batch_transfer};

/// On each device, before the sanity check.
inline constexpr std::array fit_start = {Hook::on_fit_start, Hook::setup, Hook::configure_optimizers,
                                         Hook::on_pretrain_routine_start, Hook::on_pretrain_routine_end};
/// The same for a stage other than fit.
inline constexpr std::array setup = {Hook::setup};
/// After the sanity check.
inline constexpr std::array train_start = {Hook::on_train_start};
inline constexpr std::array train_epoch_start = {Hook::on_epoch_start, Hook::on_train_epoch_start};
/// One training batch. With gradient accumulation the zero_grad hooks come with the first batch of a window only, the
/// optimizer's with the last one only (a short last window of an epoch included). Validation, where due, follows.
inline constexpr std::array train_batch = {Hook::on_train_batch_start,
                                           Hook::on_before_batch_transfer,
                                           Hook::transfer_batch_to_device,
                                           Hook::on_after_batch_transfer,
                                           Hook::training_step,
                                           Hook::on_before_zero_grad,
                                           Hook::optimizer_zero_grad,
                                           Hook::on_before_backward,
                                           Hook::backward,
                                           Hook::on_after_backward,
                                           Hook::on_before_optimizer_step,
                                           Hook::optimizer_step,
                                           Hook::on_train_batch_end};
inline constexpr std::array train_epoch_end = {Hook::training_epoch_end, Hook::on_train_epoch_end, Hook::on_epoch_end};
inline constexpr std::array train_end = {Hook::on_train_end};
inline constexpr std::array fit_end = {Hook::on_fit_end};
/// The last hook of every stage.
inline constexpr std::array teardown = {Hook::teardown};

/// Validation, also as the sanity check.
inline constexpr std::array validation_start = {Hook::on_validation_model_eval, Hook::on_validation_start,
                                                Hook::on_epoch_start, Hook::on_validation_epoch_start};
inline constexpr std::array validation_batch = {Hook::on_validation_batch_start, Hook::on_before_batch_transfer,
                                                Hook::transfer_batch_to_device,  Hook::on_after_batch_transfer,
                                                Hook::validation_step,           Hook::on_validation_batch_end};
inline constexpr std::array validation_end = {Hook::validation_epoch_end, Hook::on_validation_epoch_end,
                                              Hook::on_epoch_end, Hook::on_validation_end,
                                              Hook::on_validation_model_train};

/// Test: validation with its own names.
inline constexpr std::array test_start = {Hook::on_test_model_eval, Hook::on_test_start, Hook::on_epoch_start,
                                          Hook::on_test_epoch_start};
inline constexpr std::array test_batch = {Hook::on_test_batch_start,
                                          Hook::on_before_batch_transfer,
                                          Hook::transfer_batch_to_device,
                                          Hook::on_after_batch_transfer,
                                          Hook::test_step,
                                          Hook::on_test_batch_end};
inline constexpr std::array test_end = {Hook::test_epoch_end, Hook::on_test_epoch_end, Hook::on_epoch_end,
                                        Hook::on_test_end, Hook::on_test_model_train};

/// Prediction has no epoch outputs unless asked for.
inline constexpr std::array predict_start = {Hook::on_predict_model_eval, Hook::on_predict_start,
                                             Hook::on_predict_epoch_start};
inline constexpr std::array predict_batch = {Hook::on_predict_batch_start,
                                             Hook::on_before_batch_transfer,
                                             Hook::transfer_batch_to_device,
                                             Hook::on_after_batch_transfer,
                                             Hook::predict_step,
                                             Hook::on_predict_batch_end};
inline constexpr std::array predict_end = {Hook::on_predict_epoch_end, Hook::on_predict_end};

}  // namespace troupe::hook_order
