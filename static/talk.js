// What only a chat needs, in one: it is fetched when the reader comes to the chat.

import {learn} from "./words.js";

export {answer, question, sentence} from "./answer.js";
export {addPictures, havePictures, takePictures} from "./pictures.js";
export {asCurl, nothing, request, send} from "./send.js";

await learn("zh-chat");
