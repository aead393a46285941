#include "retrieval/schema/sensitive.h"

#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {

bool IsSensitiveName(std::string_view column_name) {
  static const auto* const words = new absl::flat_hash_set<std::string>({
      "email",     "emails",     "mail",      "ssn",        "sin",         "password",
      "passwd",    "passphrase", "pwd",       "pass",       "secret",      "salt",
      "token",     "cvv",        "cvc",       "iban",       "passport",    "phone",
      "phones",    "fax",        "telephone", "mobile",     "msisdn",      "dob",
      "birthdate", "birthday",   "pin",       "credential", "credentials",
  });
  // Found in the name without its separators: compounds come in every spelling.
  static constexpr const char* kCompounds[] = {
      "socialsecurity", "creditcard",   "cardnumber",    "cardno",         "accountnumber",
      "taxid",          "nationalid",   "driverlicense", "driverslicense", "dateofbirth",
      "birthdate",      "apikey",       "privatekey",    "accesskey",      "emailaddress",
      "phonenumber",    "passwordhash", "bankaccount",
  };
  for (const std::string& word : SplitWords(column_name)) {
    if (words->contains(word)) return true;
  }
  const std::string squashed = Squash(column_name);
  for (const char* compound : kCompounds) {
    if (absl::StrContains(squashed, compound)) return true;
  }
  return false;
}

}  // namespace octogate::schema
