// What a sampler makes of the logit of one token before it ranks them.

#ifndef OCTOGATE_KERNELS_LOGIT_EDIT_H_
#define OCTOGATE_KERNELS_LOGIT_EDIT_H_

#include <cstdint>

#include "kernels/host_device.h"

namespace octogate::kernels {

// The defaults change no bit of a logit.
struct LogitEdit {
  int32_t row = 0;
  int32_t id = 0;
  float add = -0.0f;   // first
  float penalty = 1;   // then divides what is positive, multiplies the rest; above 0
  float subtract = 0;  // last
};

OCTOGATE_HOST_DEVICE inline float Edited(float logit, const LogitEdit& edit) {
  logit += edit.add;
  logit = logit > 0 ? logit / edit.penalty : logit * edit.penalty;
  return logit - edit.subtract;
}

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_LOGIT_EDIT_H_
