// Names of metrics that somebody gave.
#pragma once

#include <string>
#include <vector>

namespace troupe::command {

/// Throws UsageError "there is no metric 'val_los'; did you mean val_loss? (val_loss, val_acc)" unless `known` has
/// `name`; `where` says of what: " in any of these runs".
void check_metric(const std::string& name, const std::vector<std::string>& known, const std::string& where);

}  // namespace troupe::command
