// Options that several metrics have and that are one of a few words. The words are torchmetrics'.
#pragma once

#include "troupe/modules/options/choices.hpp"

namespace troupe::metrics {

/// An option without a default: what leaves it out does not compile.
template <class T>
class Required {
 public:
  constexpr Required(T value) : value_(value) {}
  constexpr operator T() const { return value_; }

 private:
  T value_;
};

/// What a metric of classification judges.
enum class Task {
  binary,      ///< one yes or no each
  multiclass,  ///< one of num_classes
  multilabel,  ///< num_labels yes or no each
};
TROUPE_CHOICES(Task, {binary, "binary"}, {multiclass, "multiclass"}, {multilabel, "multilabel"})

/// What becomes of the values of classes or labels.
enum class Average {
  micro,     ///< one value, of the counts of all
  macro,     ///< their mean
  weighted,  ///< their mean, weighted with the number of targets
  none,      ///< all of them are the value
};
TROUPE_CHOICES(Average, {micro, "micro"}, {macro, "macro"}, {weighted, "weighted"}, {none, "none"})

/// What becomes of the values of samples, texts or images.
enum class Reduction {
  mean,
  elementwise_mean = mean,  ///< the name that torchmetrics has in metrics of images
  sum,
  none,  ///< all of them are the value, and are kept
};
TROUPE_CHOICES(Reduction, {mean, "mean"}, {mean, "elementwise_mean", ::troupe::ChoiceUse::accepted}, {sum, "sum"},
               {none, "none"})

/// What becomes of the values of outputs.
enum class Multioutput {
  uniform_average,    ///< their mean
  variance_weighted,  ///< their mean, weighted with the variance of targets
  raw_values,         ///< all of them are the value
};
TROUPE_CHOICES(Multioutput, {uniform_average, "uniform_average"}, {variance_weighted, "variance_weighted"},
               {raw_values, "raw_values"})

}  // namespace troupe::metrics
