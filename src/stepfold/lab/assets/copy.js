// Copies the command beside a button. A page that is not from a secure origin has no clipboard: there
// the command is selected, and copied as a selection.
(() => {
  "use strict";
  for (const button of document.querySelectorAll("button.copy")) {
    const code = button.parentElement.querySelector("code");
    const select = () => {
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    };
    const say = (done) => {
      button.textContent = done ? "Copied" : "Selected: copy it with the keyboard";
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      if (!navigator.clipboard) say(select());
      else {
        navigator.clipboard.writeText(code.textContent).then(
          () => say(true),
          () => say(select()),
        );
      }
    });
  }
})();
