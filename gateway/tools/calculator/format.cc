#include "gateway/tools/calculator/format.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octogate::gateway::calculator {
namespace {

constexpr std::string_view kRounded = "≈ ";
constexpr size_t kMaxFractionCharacters = 200;
constexpr int64_t kMaxLeadingZeros = 20;
constexpr double kLog10Of2 = 0.30102999566398120;

// 0.DIGITS * 10^exponent, the first digit not 0.
struct Decimal {
  bool negative = false;
  std::string digits;
  int64_t exponent = 0;
};

void StripTrailingZeros(std::string& digits) {
  digits.erase(std::max<size_t>(digits.find_last_not_of('0') + 1, 1));
}

// Plain where the number is of an everyday size, else d.ddde±x.
std::string Write(const Decimal& decimal, int64_t max_plain_digits) {
  const std::string& digits = decimal.digits;
  const int64_t count = static_cast<int64_t>(digits.size());
  const int64_t exponent = decimal.exponent;
  std::string text = decimal.negative ? "-" : "";
  if (exponent > 0 && exponent <= max_plain_digits) {
    if (count <= exponent) {
      absl::StrAppend(&text, digits, std::string(static_cast<size_t>(exponent - count), '0'));
    } else {
      const size_t whole = static_cast<size_t>(exponent);
      absl::StrAppend(&text, digits.substr(0, whole), ".", digits.substr(whole));
    }
  } else if (exponent <= 0 && -exponent <= kMaxLeadingZeros) {
    absl::StrAppend(&text, "0.", std::string(static_cast<size_t>(-exponent), '0'), digits);
  } else {
    absl::StrAppend(&text, digits.substr(0, 1));
    if (count > 1) absl::StrAppend(&text, ".", digits.substr(1));
    absl::StrAppend(&text, "e", exponent - 1);
  }
  return text;
}

mpz_class PowerOfTen(int64_t exponent) {
  mpz_class power;
  mpz_ui_pow_ui(power.get_mpz_t(), 10, static_cast<unsigned long>(exponent));
  return power;
}

// |value| != 0 rounded to nearest, half away from zero.
Decimal RoundToDigits(const Rational& value, int digits) {
  int64_t exponent = static_cast<int64_t>(std::floor(Log2Of(value) * kLog10Of2)) + 1;
  for (;;) {  // The estimate is off by one at most.
    const int64_t shift = digits - exponent;
    mpz_class numerator = abs(value.get_num());
    mpz_class denominator = value.get_den();
    (shift >= 0 ? numerator : denominator) *= PowerOfTen(std::abs(shift));
    // By what is cut off, not rounded: that may have a digit more.
    const mpz_class whole = numerator / denominator;
    const size_t whole_digits = whole == 0 ? 0 : whole.get_str().size();
    if (static_cast<int64_t>(whole_digits) != digits) {
      exponent += static_cast<int64_t>(whole_digits) > digits ? 1 : -1;
      continue;
    }
    std::string text = mpz_class((2 * numerator + denominator) / (2 * denominator)).get_str();
    if (text.size() > whole_digits) ++exponent;
    StripTrailingZeros(text);
    return {.negative = value < 0, .digits = std::move(text), .exponent = exponent};
  }
}

// The number of decimals of a terminating fraction, or nullopt.
std::optional<uint64_t> DecimalPlaces(const mpz_class& denominator) {
  const uint64_t twos = mpz_scan1(denominator.get_mpz_t(), 0);
  mpz_class rest;
  const mpz_class five = 5;
  const uint64_t fives = mpz_remove(rest.get_mpz_t(), denominator.get_mpz_t(), five.get_mpz_t());
  if (mpz_popcount(rest.get_mpz_t()) != 1) return std::nullopt;
  return std::max(twos, fives);
}

std::string FormatRounded(const Rational& value, const NumberStyle& style) {
  return absl::StrCat(absl::string_view(kRounded.data(), kRounded.size()),
                      Write(RoundToDigits(value, style.digits), style.digits));
}

Decimal DigitsOf(const Real& value, int digits) {
  mpfr_exp_t exponent = 0;
  char* text =
      mpfr_get_str(nullptr, &exponent, 10, static_cast<size_t>(digits), value.get(), MPFR_RNDN);
  std::string written = text;
  mpfr_free_str(text);
  const bool negative = written[0] == '-';
  if (negative) written.erase(0, 1);
  return {.negative = negative, .digits = std::move(written), .exponent = exponent};
}

}  // namespace

absl::StatusOr<std::string> FormatRational(const Rational& value, const NumberStyle& style,
                                           ExactContext exact) {
  // Conversion to decimal and back to lowest terms costs about as much as four divisions.
  const int64_t bits = static_cast<int64_t>(BitsOf(value));
  if (absl::Status status = exact.meter.Charge(8 * bits); !status.ok()) return status;
  const size_t whole_digits = mpz_sizeinbase(value.get_num_mpz_t(), 10);
  if (IsInteger(value)) {
    if (whole_digits + 1 <= style.max_characters) return value.get_num().get_str();
    const std::string rounded = FormatRounded(value, style);
    const int64_t digits = RoundToDigits(value, style.digits).exponent;
    return absl::StrCat(rounded, " (a whole number of about ", digits, " digits)");
  }
  const std::optional<uint64_t> places = DecimalPlaces(value.get_den());
  if (places.has_value() && *places + whole_digits + 3 <= style.max_characters) {
    const mpz_class scaled =
        value.get_num() * PowerOfTen(static_cast<int64_t>(*places)) / value.get_den();
    std::string digits = mpz_class(abs(scaled)).get_str();
    const int64_t exponent = static_cast<int64_t>(digits.size() - *places);
    StripTrailingZeros(digits);
    return Write({.negative = value < 0, .digits = std::move(digits), .exponent = exponent},
                 static_cast<int64_t>(style.max_characters));
  }
  const std::string rounded = FormatRounded(value, style);
  const size_t fraction_size = whole_digits + mpz_sizeinbase(value.get_den_mpz_t(), 10) + 2;
  if (places.has_value() || fraction_size > kMaxFractionCharacters) return rounded;
  return absl::StrCat(value.get_str(), " ", rounded);
}

std::optional<std::string> FormatInterval(const Interval& value, int digits) {
  if (mpfr_sgn(value.low.get()) != mpfr_sgn(value.high.get())) return std::nullopt;
  const std::string_view mark = kRounded;
  if (mpfr_zero_p(value.low.get())) return std::string(mark) + "0";
  Decimal low = DigitsOf(value.low, digits);
  const Decimal high = DigitsOf(value.high, digits);
  if (low.exponent != high.exponent || low.digits != high.digits) return std::nullopt;
  StripTrailingZeros(low.digits);
  return std::string(mark) + Write(low, digits);
}

std::optional<std::string> FormatUndecided(const Interval& value, int digits) {
  if (mpfr_sgn(value.low.get()) <= 0 && mpfr_sgn(value.high.get()) >= 0) {
    int64_t exponent = mpfr_get_emin();
    for (const Real* end : {&value.low, &value.high}) {
      if (!mpfr_zero_p(end->get())) {
        exponent = std::max<int64_t>(exponent, mpfr_get_exp(end->get()));
      }
    }
    const int64_t power =
        static_cast<int64_t>(std::ceil(static_cast<double>(exponent) * kLog10Of2));
    return absl::StrCat("≈ 0 (certain to within 1e", power, ")");
  }
  for (int fewer = digits - 1; fewer > 0; --fewer) {
    if (std::optional<std::string> text = FormatInterval(value, fewer)) return text;
  }
  return std::nullopt;
}

}  // namespace octogate::gateway::calculator
