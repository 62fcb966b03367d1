# cmake -DFROM=a.proto -DTO=b.proto -P strings_to_bytes.cmake: a copy in which every string field is a bytes field.
file(READ ${FROM} text)
string(REGEX REPLACE "(\n *(repeated )?)string " "\\1bytes " text "${text}")
file(WRITE ${TO} "${text}")
