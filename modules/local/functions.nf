// A text as one word of bash, whatever it holds
def shellQuote(text) {
    return "'" + text.toString().replace("'", "'\\''") + "'"
}
