#include "troupe/runtime/replica/device_shards.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/support/tensor_part.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/precision/autocast.hpp"

#include <c10/core/DeviceGuard.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

namespace troupe {

namespace {

int64_t samples_of(const Batch& batch) {
  int64_t samples = -1;
  for (const auto& tensor : batch.tensors()) {
    if (tensor.dim() == 0) continue;
    if (samples >= 0 && tensor.size(0) != samples) {
      throw UsageError("a batch is cut into parts along the first dimension of its tensors, but one has " +
                       std::to_string(samples) + " samples and another " + std::to_string(tensor.size(0)));
    }
    samples = tensor.size(0);
  }
  return samples;
}

// Two modules of one kind: parameters, or buffers, pair by pair.
void check_alike(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b, const char* what) {
  const auto is_alike = [](const torch::Tensor& x, const torch::Tensor& y) {
    return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type();
  };
  if (std::ranges::equal(a, b, is_alike)) return;
  throw UsageError(std::string("the copies of the module for dp have other ") + what +
                   ": its options and setup() must lead to the same model each time");
}

// The time that the module speaks to a shard's context.
class Attached {
 public:
  Attached(Module& module, ShardContext& shard, RunContext& run) : module_(module), run_(run) { module.attach(&shard); }
  ~Attached() { module_.attach(&run_); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;

 private:
  Module& module_;
  RunContext& run_;
};

}  // namespace

std::vector<Batch> split_batch(const Batch& batch, std::size_t count) {
  std::vector<Batch> shards;
  if (!batch.parts().empty()) {  // of several loaders
    std::vector<std::vector<Batch>> cut;
    std::size_t least = count;
    for (const auto& each : batch.parts()) {
      cut.push_back(split_batch(each, count));
      least = std::min(least, cut.back().size());
    }
    for (std::size_t i = 0; i < least; ++i) {
      Batch shard = batch;
      for (std::size_t loader = 0; loader < cut.size(); ++loader) shard.parts()[loader] = cut[loader][i];
      shards.push_back(std::move(shard));
    }
    const auto is_even = [&](const auto& list) { return list.size() == least; };
    if (!std::ranges::all_of(cut, is_even)) return {batch};  // too short for all devices
    return shards;
  }
  const int64_t samples = samples_of(batch);
  if (samples <= 1 || batch.size() == 0) return {batch};
  const int64_t each = (samples + static_cast<int64_t>(count) - 1) / static_cast<int64_t>(count);
  for (int64_t begin = 0; begin < samples; begin += each) {
    Batch shard = batch;
    for (auto& tensor : shard.tensors()) {
      if (tensor.dim() > 0) tensor = tensor_part(tensor, 0, begin, std::min(begin + each, samples));
    }
    shard.set_size(std::min(begin + each, samples) - begin);
    shards.push_back(std::move(shard));
  }
  return shards;
}

StepOutput joined_outputs(const std::vector<StepOutput>& outputs, const std::vector<int64_t>& sizes) {
  if (outputs.size() == 1) return outputs.front();
  const auto& first = outputs.front().items();
  for (const auto& output : outputs) {
    const auto same_key = [](const auto& a, const auto& b) { return a.first == b.first; };
    if (!std::ranges::equal(output.items(), first, same_key)) {
      throw UsageError(
          "the parts of a batch returned different keys: return the same from each, or join them in *_step_end");
    }
  }
  double samples = 0;
  for (const int64_t size : sizes) samples += static_cast<double>(size);
  StepOutput::Items items;
  for (std::size_t i = 0; i < first.size(); ++i) {
    std::vector<torch::Tensor> tensors;
    for (std::size_t p = 0; p < outputs.size(); ++p) {
      const auto& tensor = outputs[p].items()[i].second;
      const bool is_scalar = first[i].second.dim() == 0;
      tensors.push_back(is_scalar ? tensor * (static_cast<double>(sizes[p]) / samples) : tensor);
    }
    items.emplace_back(first[i].first, first[i].second.dim() == 0 ? torch::stack(tensors).sum() : torch::cat(tensors));
  }
  return StepOutput(std::move(items));
}

// --- A copy and its thread ---

class DeviceShards::Copy {
 public:
  Copy(RunContext& run, torch::Device device) : device_(device), context_(run, device, /*is_of_run=*/false) {
    thread_ = std::thread([this] { serve(); });
  }
  ~Copy() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
    if (module) module->attach(nullptr);
  }

  torch::Device device() const { return device_; }
  ShardContext& context() { return context_; }

  void start(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      task_ = std::move(task);
      is_done_ = false;
      error_ = nullptr;
    }
    changed_.notify_all();
  }
  std::exception_ptr wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_done_; });
    return error_;
  }

  std::shared_ptr<Module> module;
  std::vector<torch::Tensor> parameters, buffers;
  bool shares_memory = false;  // with the module: on one device
  StepOutput output;

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return ends_ || task_; });
      if (ends_) return;
      const auto task = std::exchange(task_, nullptr);
      lock.unlock();
      std::exception_ptr error;
      try {
        const c10::OptionalDeviceGuard guard(device_);
        task();
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      error_ = error;
      is_done_ = true;
      changed_.notify_all();
    }
  }

  const torch::Device device_;
  ShardContext context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> task_;
  std::exception_ptr error_;
  bool is_done_ = true;
  bool ends_ = false;
  std::thread thread_;
};

DeviceShards::DeviceShards(RunContext& run, Module& module, Setup setup)
    : run_(run), module_(module), setup_(std::move(setup)), own_(run, run.device(), /*is_of_run=*/true) {
  own_.set_module(&module);
  const auto parameters = module.parameters();
  const auto buffers = module.buffers();
  for (const auto& device : setup_.devices) {
    auto copy = std::make_unique<Copy>(run, device);
    copy->start([&, made = copy.get()] {
      if (setup_.num_threads > 0) torch::set_num_threads(static_cast<int>(setup_.num_threads));
      seed_thread(setup_.seed);  // as the module was made
      made->module = setup_.make_module();
      made->module->attach(&made->context());
      setup_.prepare(*made->module, device);
      made->module->attach(&made->context());  // what setup() has made too
    });
    if (const auto error = copy->wait()) std::rethrow_exception(error);
    copy->context().set_module(copy->module.get());
    copy->parameters = copy->module->parameters();
    copy->buffers = copy->module->buffers();
    check_alike(parameters, copy->parameters, "parameters");
    check_alike(buffers, copy->buffers, "buffers");
    copy->shares_memory = parameters.empty() || parameters.front().device() == device;
    if (copy->shares_memory) {
      for (std::size_t i = 0; i < parameters.size(); ++i) copy->parameters[i].set_data(parameters[i].detach());
    }
    copies_.push_back(std::move(copy));
  }
}

DeviceShards::~DeviceShards() = default;

DeviceShards::Outputs DeviceShards::run(const Batch& batch, const Step& step, uint64_t step_number) {
  Outputs result;
  const auto shards = split_batch(batch, 1 + copies_.size());
  for (const auto& shard : shards) result.sizes.push_back(shard.size());
  const auto in_precision = [&](Module& module, const Batch& shard) {
    const Autocast autocast(run_.precision(), module.device());
    return step(module, shard);
  };
  result.outputs = compute(shards, in_precision, step_number);
  std::vector<ShardReport> reports{own_.take_report()};
  for (auto& copy : copies_) reports.push_back(copy->context().take_report());
  ShardReport::tell(run_, module_, std::span(reports).first(shards.size()), result.sizes);
  return result;
}

std::vector<StepOutput> DeviceShards::compute(const std::vector<Batch>& shards, const Step& step,
                                              uint64_t step_number) {
  failed_.reset();
  const auto parameters = module_.parameters();
  const auto buffers = module_.buffers();
  const auto layers = module_.modules(/*include_self=*/true);
  const bool with_gradients = torch::GradMode::is_enabled();
  const bool should_stop = run_.should_stop();
  const torch::Device home = run_.device();
  for (std::size_t p = 1; p < shards.size(); ++p) {
    Copy& copy = *copies_[p - 1];
    copy.start([&, p] {
      {
        const torch::NoGradGuard no_gradients;
        for (std::size_t i = 0; i < parameters.size(); ++i) {
          if (!copy.shares_memory) copy.parameters[i].copy_(parameters[i], /*non_blocking=*/true);
          copy.parameters[i].set_requires_grad(parameters[i].requires_grad());
        }
        for (std::size_t i = 0; i < buffers.size(); ++i) copy.buffers[i].copy_(buffers[i], /*non_blocking=*/true);
      }
      const auto own = copy.module->modules(/*include_self=*/true);
      for (std::size_t i = 0; i < std::min(own.size(), layers.size()); ++i) {  // parents come before their children
        if (own[i]->is_training() != layers[i]->is_training()) own[i]->train(layers[i]->is_training());
      }
      seed_thread_and_device(mix(setup_.seed, p, step_number), copy.device());
      const torch::AutoGradMode mode(with_gradients);
      copy.context().begin(should_stop);
      copy.output = step(*copy.module, shards[p].to(copy.device(), /*non_blocking=*/true));
    });
  }
  // The first shard's thread is this one; the others refer to what is here, so they are waited for in any case.
  std::exception_ptr error;
  std::vector<StepOutput> outputs(shards.size());
  try {
    const Attached attached(module_, own_, run_);
    own_.begin(should_stop);
    outputs[0] = step(module_, shards[0]);
  } catch (...) {
    error = std::current_exception();
  }
  for (std::size_t p = 1; p < shards.size(); ++p) {
    Copy& copy = *copies_[p - 1];
    const auto problem = copy.wait();
    if (problem && !error) {
      error = problem;
      failed_ = copy.device();
    }
    StepOutput::Items items;
    const StepOutput output = std::exchange(copy.output, {});
    for (const auto& [key, tensor] : output.items()) {
      items.emplace_back(key, tensor.defined() ? tensor.to(home) : tensor);
    }
    outputs[p] = StepOutput(std::move(items));
  }
  if (error) std::rethrow_exception(error);
  return outputs;
}

void DeviceShards::collect_gradients() {
  const torch::NoGradGuard no_gradients;
  const auto parameters = module_.parameters();
  for (auto& copy : copies_) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      auto& theirs = copy->parameters[i].mutable_grad();
      if (!theirs.defined()) continue;
      auto& ours = parameters[i].mutable_grad();
      if (ours.defined()) {
        ours.add_(theirs.to(ours.device()));
      } else {
        ours = theirs.to(parameters[i].device());
      }
      theirs.reset();
    }
  }
}

void DeviceShards::collect_metrics() {
  for (auto& copy : copies_) {
    for (std::size_t i = 0; i < module_.metrics().size(); ++i) {
      Metric& theirs = *copy->module->metrics().at(i).second;
      if (theirs.update_count() == 0) continue;
      Metric& ours = *module_.metrics()[i].second;
      ours.load_states(merged(std::vector<MetricStates>{ours.states(), theirs.states()}));
      theirs.reset();
    }
  }
}

}  // namespace troupe
