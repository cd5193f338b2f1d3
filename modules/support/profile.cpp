#include "troupe/modules/support/profile.hpp"

namespace troupe {

void ProfileScope::begin(ScopeRecorder& recorder, std::string_view name) {
  begun_ = recorder.begin(name, this);
  if (begun_) recorder_ = &recorder;
}

}  // namespace troupe
